"""The training loop: restore or initialize; then step, log, evaluate and save; finally save the last checkpoint.

Pretraining and fine-tuning each build a `Training`; `train` runs it.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import jax
import numpy as np
import optax

from bigs_cli.checkpoints.orbax import Checkpoints
from bigs_cli.core.errors import RequestError
from bigs_cli.core.metric_names import percent
from bigs_cli.core.places import place_of
from bigs_cli.core.processes import any_process, broadcast, is_main_process
from bigs_cli.core.wording import shortest_float
from bigs_cli.models import sharding as meshes
from bigs_cli.models.functional import Parameters, memoize
from bigs_cli.recipe import FinetuneRecipe, PretrainRecipe
from bigs_cli.reporting.console import err
from bigs_cli.reporting.live import LiveView
from bigs_cli.reporting.metrics_log import MetricsLog
from bigs_cli.training.job import Job
from bigs_cli.training.nonfinite import divergence_error, is_finite, nonfinite_result, skipped_steps_error
from bigs_cli.training.optimizer import learning_rate, make_optimizer
from bigs_cli.training.profile import StepProfiler
from bigs_cli.training.step import StepOptions, SummedLoss, TrainState, make_step, new_state
from bigs_cli.training.verification import Verification

Update = Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]

TOKENS = "input_ids"  # the array `[B, L]` of a batch whose size is its number of tokens, padding included


class Batches(Protocol):
    """The training batches of a run, placed on its mesh."""

    def restore(self, step: int, loop_state: Mapping[str, Any]) -> None:
        """Continue after `step` steps with the loop state saved there, which is empty at step 0."""
        ...

    def take(self, step: int) -> dict[str, jax.Array]:
        """Return the batch of step `step`, counted from 0. Called once for every step, in order."""
        ...

    def loop_state(self) -> dict[str, Any]:
        """Return the part of the loop state that `restore` needs, as JSON values."""
        ...


class Evaluator(Protocol):
    """Evaluates a run on its validation data; logs and prints the results."""

    @property
    def every_steps(self) -> int:
        """Steps between two evaluations."""
        ...

    def restore(self, step: int, loop_state: Mapping[str, Any]) -> None:
        """Continue after `step` steps with the loop state saved there, which is empty at step 0."""
        ...

    def evaluate(self, step: int, params: Parameters) -> float | None:
        """Evaluate `params` after `step`. Return a score (lower is better) to keep the best checkpoint, else None."""
        ...

    def finish(self, step: int, params: Parameters) -> float | None:
        """Evaluate the final `params`. Return their validation loss if there is one."""
        ...

    def should_stop(self) -> bool:
        """Return whether to stop early."""
        ...

    def loop_state(self) -> dict[str, Any]:
        """Return the part of the loop state that `restore` needs, as JSON values."""
        ...


@dataclass(frozen=True)
class Training:
    """A training run: its recipe, loss, data and number of steps.

    `digests` holds the SHA-256 of each part of the data, the training data first; a run resumes only with equal
    digests. `fixed` are further arguments of the loss: parameters that are not trained. The `verification` of the data
    must succeed before a checkpoint is written. `peak_tokens` is the number of tokens per second at the peak FLOP/s of
    the devices, from which the live view computes the utilization; with None it shows none.
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
    fixed: tuple[Parameters, ...] = ()
    verification: Verification | None = None
    freeze_ssm: bool = False
    max_minutes: float | None = None
    peak_tokens: float | None = None


@dataclass(frozen=True)
class Trained:
    """The final state of a run, its number of steps, and its training time in seconds, summed over all resumes."""

    state: TrainState
    steps: int
    seconds: float


def train(training: Training, params: Parameters, checkpoints: Checkpoints, log: MetricsLog) -> Trained:
    """Train from `params`, or resume from the newest checkpoint, and write the last checkpoint.

    The loop waits for the device only when it logs. It checks for nonfinite steps when it logs and, with a delay of n
    steps, every n = `stop_after_nonfinite` steps. A diverged run therefore ends at most 3n steps after the first
    nonfinite step, with the parameters from before that step. Ctrl-C and SIGTERM stop the loop after the current step
    and write a checkpoint; a second Ctrl-C stops it immediately.

    Raises:
        RequestError: the checkpoints are corrupt, or belong to another model or other data; or the data was modified.
        BigsError: training diverged. No checkpoint is written.
        KeyboardInterrupt: the run was interrupted. A checkpoint is written.
    """
    recipe, job, evaluator = training.recipe, training.job, training.evaluator
    settings = recipe.optimizer
    stop_after = settings.stop_after_nonfinite

    # --- restore or initialize ------------------------------------------------------------------------------------
    optimizer, update = make_update(training)
    state, first, loop_state = restore_or_initialize(training, params, optimizer, checkpoints)
    training.batches.restore(first, loop_state)
    if evaluator is not None:
        evaluator.restore(first, loop_state)
    clock = _Clock(float(loop_state.get("seconds", 0.0)), training.max_minutes)

    def save(score: float | None = None) -> None:
        if training.verification is not None:
            training.verification.wait()
        loop_state = training.batches.loop_state() | ({} if evaluator is None else evaluator.loop_state())
        loop_state |= {"skipped": int(state.skipped), "skipped_in_a_row": int(state.skipped_in_a_row)}
        loop_state |= {"seconds": clock.seconds(), "data": dict(training.digests)}
        checkpoints.save(step, state.params, state.optimizer, loop_state, state.ema, score)

    def check_nonfinite(in_a_row: jax.Array, step: int) -> None:
        if (count := int(in_a_row)) >= stop_after:
            raise skipped_steps_error(job.folder.path, checkpoints, settings, step - count + 1)

    # --- train ----------------------------------------------------------------------------------------------------
    step, in_a_row_before = first, None
    done = step >= training.steps or (step > 0 and clock.is_up()) or (evaluator is not None and evaluator.should_stop())
    with (
        _stop_request() as stop,
        LiveView(recipe.kind, first, training.steps, training.peak_tokens) as view,
        StepProfiler(job.profile, first) as profiler,
    ):
        throughput = _Throughput()
        while not done:
            with profiler.step(step):
                batch = throughput.take(training.batches, step)
                state, metrics = update(state, batch)
            profiler.end(step, state)
            in_a_row = metrics.pop("skipped_in_a_row")
            step += 1
            last = done = step == training.steps or clock.is_up()

            if step % stop_after == 0:
                if in_a_row_before is not None:
                    check_nonfinite(in_a_row_before, step - stop_after)
                in_a_row_before = in_a_row
            if step % recipe.log_every == 0 or done or step == first + 1:
                if training.verification is not None:
                    training.verification.poll()
                values = {name: shortest_float(value) for name, value in jax.device_get(metrics).items()}
                values |= {"skipped": int(values["skipped"]), **throughput.read()}
                log.write(step, **values)
                view.show(values)
                if done or (step != first + 1 and not view.drawn):
                    err.print(_line(training.steps, step, values))
                check_nonfinite(in_a_row, step)
            view.step()

            with throughput.paused():
                if evaluator is not None and step % evaluator.every_steps == 0 and not last:
                    score = evaluator.evaluate(step, state.ema_params)
                    best = checkpoints.best()
                    if score is not None and (best is None or score < best) and is_finite(step, state):
                        save(score)
                    done = evaluator.should_stop()
                if step % training.checkpoint_every == 0 and not last and is_finite(step, state):
                    save()
            if not done and _should_interrupt(stop, step):
                if saved := is_finite(step, state):
                    save()
                what = "a checkpoint is written" if saved else "this step was skipped, so no checkpoint is written"
                err.print(f"Stopped after step {step:,}; {what}. {job.continue_with()}")
                raise KeyboardInterrupt

    # --- finish: the last evaluation and checkpoint -----------------------------------------------------------------
    try:
        loss = None if evaluator is None else evaluator.finish(step, state.ema_params)
    except KeyboardInterrupt:
        # All processes write a checkpoint together, and the others may not have been interrupted.
        if jax.process_count() == 1 and step not in checkpoints.steps() and is_finite(step, state):
            save()
            checkpoints.wait()
            err.print(f"Stopped after step {step:,}; a checkpoint is written. {job.continue_with()}")
        raise
    if problem := nonfinite_result(step, state, loss):
        raise divergence_error(problem, job.folder.path, checkpoints, settings)
    save()
    checkpoints.wait()
    return Trained(state, step, clock.seconds())


def make_update(training: Training) -> tuple[optax.GradientTransformationExtraArgs, Update]:
    """Return the optimizer of a run and its compiled step, (state, batch) → (state, metrics)."""
    recipe, settings = training.recipe, training.recipe.optimizer
    lr_schedule = learning_rate(recipe.schedule, settings.learning_rate, training.steps)
    optimizer = make_optimizer(settings, training.freeze_ssm, recipe.compute.dtype)
    options = StepOptions(training.recipe.gradient_accumulation_steps, settings.ema, settings.stop_after_nonfinite)
    return optimizer, make_step(training.loss, optimizer, lr_schedule, recipe.seed, options, training.fixed)


def initialize_state(training: Training, params: Parameters, optimizer: optax.GradientTransformation) -> TrainState:
    """Return the state before the first step, placed on the mesh."""
    mesh, with_ema = training.mesh, training.recipe.optimizer.ema is not None
    params = place_parameters(params, mesh)
    initialize = _state_initializer(optimizer, with_ema)
    shardings = TrainState(*(meshes.shardings(mesh, part) for part in jax.eval_shape(initialize, params)))
    return jax.jit(initialize, out_shardings=shardings)(params)


def place_parameters(params: Parameters, mesh: jax.sharding.Mesh) -> Parameters:
    """Return parameters placed on the mesh."""
    # Copy from the host: with several processes, each holds only a part of an array placed on the mesh.
    return jax.device_put(jax.tree.map(np.asarray, params), meshes.shardings(mesh, params))


@memoize
def _state_initializer(optimizer: optax.GradientTransformation, with_ema: bool) -> Callable[[Parameters], TrainState]:
    return lambda params: new_state(params, optimizer, with_ema)


def restore_or_initialize(
    training: Training, params: Parameters, optimizer: optax.GradientTransformation, checkpoints: Checkpoints
) -> tuple[TrainState, int, dict[str, Any]]:
    """Return the state to train from, placed on the mesh, its step, and the loop state saved with it.

    They come from the newest valid checkpoint of the run; without one, the state is `params` at step 0 and the loop
    state is empty. Log entries after that step are removed, because training writes them again, and the run's record
    is updated.

    Raises:
        RequestError: every checkpoint is corrupt, or the newest valid one belongs to another model or other data.
    """
    job, state = training.job, initialize_state(training, params, optimizer)
    step, loop_state = broadcast(checkpoints.newest(err.print) or 0 if is_main_process() else 0), {}
    checkpoints.reload()
    if step:
        restored, optimizer_state, ema, loop_state = checkpoints.restore(step, state.params, state.optimizer, state.ema)
        if changed := _changed(loop_state["data"], training.digests):
            folder = job.folder.path
            raise RequestError(
                f"The data is not what {folder} was trained on until step {step} (changed: {', '.join(changed)}). "
                f"Resume with the same data, or start a new run from this one: --run {folder}-2 --from {folder}"
            )
        # Checkpoints of earlier releases have no counts of skipped steps.
        counts = (step, loop_state.get("skipped", 0), loop_state.get("skipped_in_a_row", 0))
        taken, skipped, in_a_row = (jax.device_put(np.int32(count), state.step.sharding) for count in counts)
        state = TrainState(restored, optimizer_state, taken, ema, skipped, in_a_row)
        err.print(f"Resuming {place_of(job.folder.path)} after step {step}.")
    if is_main_process():
        MetricsLog(job.folder.metrics_file).drop_after(step)
        job.update_record()
    return state, step, loop_state


def _changed(saved: Mapping[str, str] | str, data: Mapping[str, str]) -> list[str]:
    """Return the names of the parts of the data whose digests differ from those in a checkpoint.

    Checkpoints of earlier releases have only the digest of the first part.
    """
    if isinstance(saved, str):
        first = next(iter(data))
        return [] if data[first] == saved else [first]
    return [name for name in dict.fromkeys([*data, *saved]) if data.get(name) != saved.get(name)]


class _Clock:
    """The seconds that a run has trained, summed over all resumes, and whether its time limit is reached."""

    def __init__(self, before: float, max_minutes: float | None) -> None:
        self._before, self._max_minutes, self._started = before, max_minutes, time.perf_counter()

    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._started

    def is_up(self) -> bool:
        return self._max_minutes is not None and any_process(self.seconds() >= 60 * self._max_minutes)


class _Throughput:
    """Tokens per second, and the fraction of time spent waiting for data, since the last `read`."""

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


def _should_interrupt(stop: threading.Event, step: int) -> bool:
    """Return whether to stop here. Several processes synchronize every ten steps, to stop after the same step."""
    return stop.is_set() if jax.process_count() == 1 else step % 10 == 0 and any_process(stop.is_set())


def _line(steps: int, step: int, values: dict[str, float]) -> str:
    """Return the logged values of a step as a line of text, for output that is not a terminal."""
    figures = [f"step {step:>{len(f'{steps:,}')},}/{steps:,}", f"loss {values['loss']:.4f}"]
    if "accuracy" in values:
        figures.append(f"accuracy {percent(values['accuracy'], 1)}%")
    if values["skipped"]:
        figures.append(f"skipped {values['skipped']}")
    return "  ".join([*figures, f"lr {values['learning_rate']:.2e}", f"{values['tokens_per_second']:,.0f} tokens/s"])


@contextmanager
def _stop_request() -> Iterator[threading.Event]:
    """Yield an event that SIGINT or SIGTERM sets; a second SIGINT interrupts as usual.

    A second SIGTERM does not: a scheduler may send one to this process and, through its parent, another.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python delivers signals to the main thread only.
        return

    def request_stop(signum: int, frame: FrameType | None) -> None:
        if stop.is_set() and signum == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
