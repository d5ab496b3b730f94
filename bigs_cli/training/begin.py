"""Where a run begins: fresh parameters on the mesh, or the newest checkpoint of its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from bigs_cli.checkpoints.orbax import Checkpoints
from bigs_cli.core.errors import RequestError
from bigs_cli.core.processes import broadcast, is_main_process
from bigs_cli.models import sharding as meshes
from bigs_cli.models.functional import Parameters
from bigs_cli.reporting.console import err
from bigs_cli.reporting.metrics_log import MetricsLog
from bigs_cli.training.job import Job
from bigs_cli.training.state import TrainState, new_state


def begin(
    params: Parameters,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    job: Job,
    checkpoints: Checkpoints,
    data: Mapping[str, str],
    average: bool = False,
) -> tuple[TrainState, int, dict[str, Any]]:
    """Return the state to go on from, laid out on `mesh`, the steps done, and the position saved with them.

    In this order: the newest checkpoint of the run that is not damaged; else `params` at step 0 and an empty position.
    What the log has of steps after the checkpoint is dropped: they come again.

    With `average`, the state has a moving average of the parameters. `data` has the digest of each part of the data,
    what is trained on first: positions are saved with it, and with what was skipped (`saved_position`). Once the run is
    known to continue, the record of its folder is brought up to date.

    Raises:
        RequestError: every checkpoint is damaged, or the newest sound one holds another model or saw other data.
    """
    # From the host: with several processes, each has but a part of what is laid out.
    params = jax.device_put(jax.tree.map(np.asarray, params), meshes.shardings(mesh, params))
    shapes = jax.eval_shape(lambda params: new_state(params, optimizer, average), params)
    places = TrainState(*(meshes.shardings(mesh, part) for part in shapes))
    state = jax.jit(lambda params: new_state(params, optimizer, average), out_shardings=places)(params)
    folder = job.folder
    done = broadcast(checkpoints.newest(err.print) or 0 if is_main_process() else 0)
    checkpoints.reload()
    if not done:
        if is_main_process():
            MetricsLog(folder.metrics_file).drop_after(0)
            job.update_record()
        return state, 0, {}
    restored, optimizer_state, ema, position = checkpoints.restore(done, state.params, state.optimizer, state.ema)
    if changed := _changed(position["data"], data):
        raise RequestError(
            f"The data is not what {folder.path} was trained on until step {done} (changed: {', '.join(changed)}). "
            f"Resume with the same data, or start a new run from this one: --run {folder.path}-2 --from {folder.path}"
        )
    if is_main_process():
        MetricsLog(folder.metrics_file).drop_after(done)
        job.update_record()
    err.print(f"Resuming {folder.path} after step {done}.")
    # Checkpoints from before steps were skipped do not count them.
    counts = (done, position.get("skipped", 0), position.get("skipped_in_a_row", 0))
    step, skipped, in_a_row = (jax.device_put(np.int32(count), state.step.sharding) for count in counts)
    return TrainState(restored, optimizer_state, step, ema, skipped, in_a_row), done, position


def saved_position(state: TrainState, data: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """Return the position to save with `state`: `more`, what `begin` needs of it, and the digests of the data."""
    counts = {"skipped": int(state.skipped), "skipped_in_a_row": int(state.skipped_in_a_row)}
    return {**more, "data": dict(data), **counts}


def _changed(saved: Mapping[str, str] | str, data: Mapping[str, str]) -> list[str]:
    """Return the names of the parts of the data that differ from those in a checkpoint.

    Older checkpoints have one digest, that of the first part.
    """
    if isinstance(saved, str):
        first = next(iter(data))
        return [] if data[first] == saved else [first]
    return [name for name in dict.fromkeys([*data, *saved]) if data.get(name) != saved.get(name)]
