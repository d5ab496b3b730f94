"""Steps with a nonfinite loss or gradient are skipped and counted; too many in a row end the run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bigs_cli.checkpoints.orbax import Checkpoints, Keep, steps
from bigs_cli.models.functional import Parameters
from bigs_cli.recipe.groups import Optimizer
from bigs_cli.reporting.metrics_log import read_metrics
from bigs_cli.training.nonfinite import skipped_steps_error
from bigs_cli.training.optimizer import OPTIMIZERS, make_optimizer
from bigs_cli.training.step import StepOptions, TrainState, make_step, new_state
from tests.tiny import bigs, pretrain, snapshot

GOOD = np.array([1.0, 2.0], np.float32)
NAN = np.array([1.0, np.nan], np.float32)
STEEP = np.array([-1.0, 2.0], np.float32)  # the loss is finite, its gradient is not
EMA = 0.5


def rate(step: Any) -> jax.Array:
    return 0.1 / (1 + jnp.asarray(step, jnp.float32))


def take_steps(
    batches: list[np.ndarray[Any, Any]], stop_after: int = 10, name: Any = "adamw"
) -> tuple[TrainState, list[dict[str, float]]]:
    """Take a step on each of `batches`; return the final state and the metrics of each step."""
    settings = Optimizer(name=name, learning_rate=0.1, beta2=0.98, weight_decay=0.1, clip_norm=1.0)

    def loss(params: Parameters, batch: jax.Array, key: jax.Array, part: Any) -> Any:
        # √ has an infinite slope at 0, to which max clips negative values.
        x = params["layer"]["kernel"][0]
        each = jnp.square(x * batch[1]) + jnp.sqrt(jnp.maximum(batch[0] * x[0], 0.0))
        return each.sum(), {"weight": jnp.float32(1)}

    optimizer = make_optimizer(settings)
    step = make_step(
        loss, optimizer, jax.tree_util.Partial(rate), 0, StepOptions(ema=EMA, stop_after_nonfinite=stop_after)
    )
    state, reports = (
        new_state({"layer": {"kernel": jnp.array([[[1.0, 3.0], [2.0, 1.0]]])}}, optimizer, with_ema=True),
        [],
    )
    for batch in batches:
        state, metrics = step(state, batch)
        reports.append({name: float(value) for name, value in metrics.items()})
    return jax.device_get(state), reports


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize("bad", [NAN, STEEP])
def test_a_skipped_step_changes_only_the_step_count(bad: np.ndarray[Any, Any], name: str) -> None:
    expected, clean = take_steps([GOOD, GOOD, GOOD], name=name)
    state, reports = take_steps([bad, GOOD, bad, bad, GOOD, GOOD], name=name)
    for name in ("params", "optimizer", "ema"):
        jax.tree.map(np.testing.assert_array_equal, getattr(state, name), getattr(expected, name))
    assert (state.step, state.skipped, state.skipped_in_a_row) == (6, 3, 0)
    assert [report["skipped_in_a_row"] for report in reports] == [1, 0, 1, 2, 0, 0]
    taken = [reports[i] for i in (1, 4, 5)]
    for name in ("loss", "grad_norm", "learning_rate"):
        assert [report[name] for report in taken] == [report[name] for report in clean]
    assert clean[0]["grad_norm"] > 1, "the logged norm is that before clipping"


def test_after_the_limit_all_further_steps_are_skipped() -> None:
    state, reports = take_steps([GOOD, NAN, NAN, GOOD, GOOD], stop_after=2)
    jax.tree.map(np.testing.assert_array_equal, state.params, take_steps([GOOD])[0].params)
    assert [report["skipped_in_a_row"] for report in reports] == [0, 1, 2, 3, 4]


def test_the_moving_average_matches_its_definition() -> None:
    """d = min(0.5, (1 + t) / (10 + t)) after t steps is 1/10, 2/11, 3/12."""
    average = np.array([1.0, 3.0])
    for count, kept in ((1, 1 / 10), (2, 2 / 11), (3, 3 / 12)):
        state = take_steps([GOOD] * count)[0]
        average = kept * average + (1 - kept) * np.asarray(state.params["layer"]["kernel"])[0, 0]
        assert state.ema is not None
        np.testing.assert_allclose(state.ema["layer"]["kernel"][0, 0], average, rtol=1e-6)
    assert not np.allclose(average, state.params["layer"]["kernel"][0, 0])


def test_a_diverged_run_keeps_its_last_good_checkpoint(shards: Path, tmp_path: Path) -> None:
    """The learning rate rises to 1e30; the first step with a nonzero rate makes the parameters nonfinite."""
    run = tmp_path / "run"
    changes = {"optimizer__learning_rate": 1e30, "optimizer__stop_after_nonfinite": 4, "checkpoint__every_steps": 1}
    ended = bigs(*pretrain(shards, run, steps=40, log_every=30, evaluate__every_steps=1000, **changes))
    assert (ended.code, ended.out) == (1, "")
    message = " ".join(ended.err.split())
    assert (
        "The loss or gradient was not finite in 4 consecutive steps, from step 3 on, so the run has stopped." in message
    )
    assert f"--from {run} --run {run}-2" in message.replace("- ", "-")
    assert "--set optimizer.learning_rate=5e+29 --set optimizer.clip_norm=1.0" in message
    assert steps(run / "checkpoints") == [1]
    assert not (run / "results.json").exists()
    assert f"The last good checkpoint is {run}/checkpoints/1." in message
    assert max(int(step) for step in re.findall(r"step (\d+): no checkpoint", ended.err)) <= 3 + 3 * 4
    before = snapshot(run / "checkpoints")
    again = bigs(*pretrain(shards, run, "--resume"))
    assert again.code == 1
    assert snapshot(run / "checkpoints") == before


@pytest.mark.parametrize(
    ("saved", "message", "left"),
    [
        ((), "There is no checkpoint yet. Start a new run (--run r-2) with a lower", []),
        ((7,), "7, holds the parameters that failed. Start a new run (--run r-2) with a lower", [7]),
        ((5, 7), "checkpoints/5. Start a new run from it (--from r --run r-2) with a lower", [5]),
    ],
)
def test_the_divergence_error_says_how_to_continue(
    saved: tuple[int, ...], message: str, left: list[int], tmp_path: Path
) -> None:
    settings = Optimizer(learning_rate=1.0, beta2=0.9, weight_decay=0, clip_norm=1.0, stop_after_nonfinite=1)
    with Checkpoints(tmp_path / "checkpoints", Keep(2)) as checkpoints:
        for step in saved:
            checkpoints.save(step, {"x": jnp.ones(2)})
        error = str(skipped_steps_error(Path("r"), checkpoints, settings, 8))
    assert error.startswith("The loss or gradient was not finite in 1 step, from step 8 on, so the run has stopped. ")
    assert message in error
    assert error.endswith("a smaller gradient norm: --set optimizer.learning_rate=0.5")
    assert steps(tmp_path / "checkpoints") == left


def test_skipped_steps_are_logged(shards: Path, pretrained: Path) -> None:
    assert [entry["skipped"] for entry in read_metrics(pretrained / "metrics.jsonl") if "loss" in entry] == [0] * 6
