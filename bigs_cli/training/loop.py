"""The training loop: restore or initialize, then step, log, evaluate and save, and stop without losing anything.

Pretraining and fine-tuning describe themselves as a `Training`; `train` runs it.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bigs_cli.checkpoints.orbax import Checkpoints
from bigs_cli.core.errors import RequestError
from bigs_cli.core.metric_names import percent
from bigs_cli.core.numbers import shortest_float
from bigs_cli.core.processes import any_process, broadcast, is_main_process
from bigs_cli.models import sharding as meshes
from bigs_cli.models.functional import Parameters
from bigs_cli.recipe import FinetuneRecipe, PretrainRecipe
from bigs_cli.reporting.console import err
from bigs_cli.reporting.live import LiveView
from bigs_cli.reporting.metrics_log import MetricsLog
from bigs_cli.training.job import Job
from bigs_cli.training.nonfinite import diverged, divergence_error, is_finite
from bigs_cli.training.optimizer import learning_rate, make_optimizer
from bigs_cli.training.step import SummedLoss, TrainState, make_step, new_state

TOKENS = "input_ids"  # the array of a batch `[B, L]` whose size counts its tokens, padding included


class Batches(Protocol):
    """The batches that a run trains on, laid out on its mesh."""

    def restore(self, step: int, position: Mapping[str, Any]) -> None:
        """Continue after `step` steps; `position` was saved then and is empty at step 0."""
        ...

    def take(self, step: int) -> dict[str, jax.Array]:
        """Return the batch of step `step`, counted from 0. Called once for every step, in order."""
        ...

    def position(self) -> dict[str, Any]:
        """Return what a checkpoint keeps for `restore`, as JSON."""
        ...


class Evaluator(Protocol):
    """Measures a run on its validation data; logs and prints the results."""

    @property
    def every_steps(self) -> int:
        """Steps between two measurements."""
        ...

    def restore(self, step: int, position: Mapping[str, Any]) -> None:
        """Continue after `step` steps; `position` was saved then and is empty at step 0."""
        ...

    def evaluate(self, step: int, params: Parameters) -> float | None:
        """Measure `params` after `step`. Return a score, lower is better, if the best checkpoint is to be kept."""
        ...

    def finish(self, step: int, params: Parameters) -> float | None:
        """Measure what the run ends with. Return its validation loss, which must be finite, if it has one."""
        ...

    def should_stop(self) -> bool:
        """Return whether further training is unlikely to help."""
        ...

    def position(self) -> dict[str, Any]:
        """Return what a checkpoint keeps for `restore`, as JSON."""
        ...


@dataclass(frozen=True)
class Training:
    """What to train, on what, and for how long.

    `digests` has the SHA-256 of each part of the data, that of the training data first; a run resumes only with the
    same. `peak_tokens` is the tokens per second at the peak FLOP/s of the devices; None shows no utilization.
    """

    recipe: PretrainRecipe | FinetuneRecipe
    job: Job
    mesh: jax.sharding.Mesh
    loss: SummedLoss
    steps: int
    batches: Batches
    evaluator: Evaluator | None
    checkpoint_every: int
    digests: Mapping[str, str]
    gradient_accumulation_steps: int = 1
    freeze_ssm: bool = False
    max_minutes: float | None = None
    peak_tokens: float | None = None


@dataclass(frozen=True)
class Trained:
    """The state a run ended with, its steps, and the seconds of all its sittings."""

    state: TrainState
    steps: int
    seconds: float


def train(training: Training, params: Parameters, checkpoints: Checkpoints, log: MetricsLog) -> Trained:
    """Train from `params`, or from the newest checkpoint of a run that is resumed, to the last checkpoint.

    The device is waited for only when a line is logged. Nonfinite steps are noticed there, and every
    `stop_after_nonfinite` steps for the steps that long ago: the loop ends at most three times that many steps after
    the first of them, with the state before it. Ctrl-C and SIGTERM end the loop after the current step, with a
    checkpoint; a second Ctrl-C ends it at once.

    Raises:
        RequestError: the checkpoints are damaged, or hold another model or data.
        BigsError: training diverged. No checkpoint is written.
        KeyboardInterrupt: the run was asked to stop; a checkpoint is written.
    """
    recipe, job, evaluator = training.recipe, training.job, training.evaluator
    settings = recipe.optimizer

    # --- restore or initialize ------------------------------------------------------------------------------------
    lr_schedule = learning_rate(recipe.schedule, settings.learning_rate, training.steps)
    optimizer = make_optimizer(settings, lr_schedule, training.freeze_ssm)
    update = make_step(
        training.loss,
        optimizer,
        lr_schedule,
        recipe.seed,
        training.gradient_accumulation_steps,
        ema=settings.ema,
        stop_after=settings.stop_after_nonfinite,
    )
    state, first, position = restore_or_initialize(training, params, optimizer, checkpoints)
    training.batches.restore(first, position)
    if evaluator is not None:
        evaluator.restore(first, position)
    clock = _Clock(float(position.get("seconds", 0.0)), training.max_minutes)

    def save(score: float | None = None) -> None:
        own = {} if evaluator is None else evaluator.position()
        counts = {"skipped": int(state.skipped), "skipped_in_a_row": int(state.skipped_in_a_row)}
        position = {**training.batches.position(), **own, **counts, "seconds": clock.seconds()}
        position["data"] = dict(training.digests)
        checkpoints.save(step, state.params, state.optimizer, position, state.ema, score)

    def check(in_a_row: jax.Array, step: int) -> None:
        if (count := int(in_a_row)) >= settings.stop_after_nonfinite:
            raise divergence_error(job.folder.path, checkpoints, settings, step - count + 1)

    # --- train ----------------------------------------------------------------------------------------------------
    step, earlier = first, None
    done = step >= training.steps or (step > 0 and clock.is_up()) or (evaluator is not None and evaluator.should_stop())
    with _stop_request() as stop, LiveView(_kind(recipe), first, training.steps, training.peak_tokens) as view:
        throughput = _Throughput()
        while not done:
            batch = throughput.take(training.batches, step)
            state, metrics = update(state, batch)
            in_a_row = metrics.pop("skipped_in_a_row")
            step += 1
            last = done = step == training.steps or clock.is_up()

            if step % settings.stop_after_nonfinite == 0:
                if earlier is not None:
                    check(earlier, step - settings.stop_after_nonfinite)
                earlier = in_a_row
            if step % recipe.log_every == 0 or done or step == first + 1:
                values = {name: shortest_float(value) for name, value in jax.device_get(metrics).items()}
                values |= {"skipped": int(values["skipped"]), **throughput.read()}
                log.write(step, **values)
                view.show(values)
                if done or (step != first + 1 and not view.drawn):
                    err.print(_line(training.steps, step, values))
                check(in_a_row, step)
            view.step()

            with throughput.paused():
                if evaluator is not None and step % evaluator.every_steps == 0 and not last:
                    score = evaluator.evaluate(step, state.averaged)
                    best = checkpoints.best()
                    if score is not None and (best is None or score < best) and is_finite(step, state):
                        save(score)
                    done = evaluator.should_stop()
                if step % training.checkpoint_every == 0 and not last and is_finite(step, state):
                    save()
            if not done and _stops(stop, step):
                saved = is_finite(step, state)
                if saved:
                    save()
                what = "a checkpoint is written" if saved else "it was skipped, so nothing is written"
                err.print(f"Stopped after step {step:,}; {what}. {job.continue_with()}")
                raise KeyboardInterrupt

    # --- finish: the last measurement and checkpoint ----------------------------------------------------------------
    try:
        loss = None if evaluator is None else evaluator.finish(step, state.averaged)
    except KeyboardInterrupt:
        # Several processes write a checkpoint together, and the others may not have been asked to stop.
        if jax.process_count() == 1 and step not in checkpoints.steps() and is_finite(step, state):
            save()
            checkpoints.wait()
            err.print(f"Stopped after step {step:,}; a checkpoint is written. {job.continue_with()}")
        raise
    if loss is not None and not math.isfinite(loss):
        what = f"The validation loss after step {step:,} is not finite"
        raise diverged(what, job.folder.path, checkpoints, settings)
    if loss is None and not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state.averaged)):
        what = f"The parameters after step {step:,} are not finite"
        raise diverged(what, job.folder.path, checkpoints, settings)
    save()
    checkpoints.wait()
    return Trained(state, step, clock.seconds())


def restore_or_initialize(
    training: Training, params: Parameters, optimizer: optax.GradientTransformation, checkpoints: Checkpoints
) -> tuple[TrainState, int, dict[str, Any]]:
    """Return the state to train from, laid out on the mesh, the steps it has taken, and the position saved with it.

    It is that of the newest valid checkpoint of the run or, without one, `params` at step 0 with an empty position.
    Lines of the log after that step are dropped, as they will be written again, and the run's record is updated.

    Raises:
        RequestError: every checkpoint is damaged, or the newest valid one holds another model or saw other data.
    """
    job, mesh, average = training.job, training.mesh, training.recipe.optimizer.ema is not None
    # From the host: with several processes, each has but a part of what is laid out.
    params = jax.device_put(jax.tree.map(np.asarray, params), meshes.shardings(mesh, params))
    shapes = jax.eval_shape(lambda params: new_state(params, optimizer, average), params)
    places = TrainState(*(meshes.shardings(mesh, part) for part in shapes))
    state = jax.jit(lambda params: new_state(params, optimizer, average), out_shardings=places)(params)
    step, position = broadcast(checkpoints.newest(err.print) or 0 if is_main_process() else 0), {}
    checkpoints.reload()
    if step:
        restored, optimizer_state, ema, position = checkpoints.restore(step, state.params, state.optimizer, state.ema)
        if changed := _changed(position["data"], training.digests):
            folder = job.folder.path
            raise RequestError(
                f"The data is not what {folder} was trained on until step {step} (changed: {', '.join(changed)}). "
                f"Resume with the same data, or start a new run from this one: --run {folder}-2 --from {folder}"
            )
        # Checkpoints from before nonfinite steps were skipped do not count them.
        counts = (step, position.get("skipped", 0), position.get("skipped_in_a_row", 0))
        taken, skipped, in_a_row = (jax.device_put(np.int32(count), state.step.sharding) for count in counts)
        state = TrainState(restored, optimizer_state, taken, ema, skipped, in_a_row)
        err.print(f"Resuming {job.folder.path} after step {step}.")
    if is_main_process():
        MetricsLog(job.folder.metrics_file).drop_after(step)
        job.update_record()
    return state, step, position


def _changed(saved: Mapping[str, str] | str, data: Mapping[str, str]) -> list[str]:
    """Return the names of the parts of the data that differ from those in a checkpoint.

    Older checkpoints have one digest, that of the first part.
    """
    if isinstance(saved, str):
        first = next(iter(data))
        return [] if data[first] == saved else [first]
    return [name for name in dict.fromkeys([*data, *saved]) if data.get(name) != saved.get(name)]


def _kind(recipe: PretrainRecipe | FinetuneRecipe) -> str:
    return "pretrain" if isinstance(recipe, PretrainRecipe) else "finetune"


class _Clock:
    """The seconds that a run has trained in all its sittings, and whether they are all it may take."""

    def __init__(self, before: float, max_minutes: float | None) -> None:
        self._before, self._max_minutes, self._started = before, max_minutes, time.perf_counter()

    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._started

    def is_up(self) -> bool:
        return self._max_minutes is not None and any_process(self.seconds() >= 60 * self._max_minutes)


class _Throughput:
    """Tokens per second, and the fraction of the time spent on waiting for data, since they were last read."""

    def __init__(self) -> None:
        self._since, self._waited, self._tokens = time.perf_counter(), 0.0, 0

    def take(self, batches: Batches, step: int) -> dict[str, jax.Array]:
        asked = time.perf_counter()
        batch = batches.take(step)
        self._waited += time.perf_counter() - asked
        self._tokens += batch[TOKENS].size
        return batch

    def read(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._since
        values = {"tokens_per_second": self._tokens / seconds, "data_wait_fraction": self._waited / seconds}
        self._since, self._waited, self._tokens = time.perf_counter(), 0.0, 0
        return values

    @contextmanager
    def paused(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._since += time.perf_counter() - started


def _stops(stop: threading.Event, step: int) -> bool:
    """Whether the run ends here. Several processes ask one another at every tenth step: they stop at the same one."""
    return stop.is_set() if jax.process_count() == 1 else step % 10 == 0 and any_process(stop.is_set())


def _line(steps: int, step: int, values: dict[str, float]) -> str:
    """Return what is logged of a step as a line for a person, where nothing is drawn."""
    shown = [f"step {step:>{len(f'{steps:,}')},}/{steps:,}", f"loss {values['loss']:.4f}"]
    if "accuracy" in values:
        shown.append(f"accuracy {percent(values['accuracy'], 1)}%")
    if values["skipped"]:
        shown.append(f"skipped {values['skipped']}")
    return "  ".join([*shown, f"lr {values['learning_rate']:.2e}", f"{values['tokens_per_second']:,.0f} tokens/s"])


@contextmanager
def _stop_request() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; the second interrupts as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Signals reach the main thread only.
        return

    def ask(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
