"""Running steps: logging, work every so many steps, and stops that lose nothing."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import jax

from bigs_cli.checkpoints.orbax import Checkpoints
from bigs_cli.core.errors import BigsError
from bigs_cli.core.metric_names import percent
from bigs_cli.core.numbers import shortest_float
from bigs_cli.core.processes import any_process
from bigs_cli.reporting.console import err
from bigs_cli.reporting.live import LiveView
from bigs_cli.reporting.metrics_log import MetricsLog
from bigs_cli.training.job import Job
from bigs_cli.training.state import Metrics, TrainState

TOKENS = "input_ids"  # the array of a batch `[B, L]` whose size counts its tokens, padding included


@dataclass(frozen=True)
class Every:
    """Call `do(step, state)` after every `steps`-th step."""

    steps: int
    do: Callable[[int, TrainState], object]


@dataclass(frozen=True)
class Plan:
    """How many steps, from where, and what else happens on the way.

    `save` says whether it wrote a checkpoint, `job` how the run continues from it. `time_is_up` ends the loop before
    `last`, but not before step 1; so does `enough`, which is asked once everything that follows a step is done. After
    `stop_after` skipped steps in a row the loop raises what `broken` makes of the first of them; the steps' own
    `stop_after` is the same.
    """

    name: str
    job: Job
    first: int
    last: int
    log_every: int
    every: tuple[Every, ...]
    save: Callable[[int, TrainState], bool]
    stop_after: int
    broken: Callable[[int], BigsError]
    time_is_up: Callable[[], bool] = lambda: False
    enough: Callable[[], bool] = lambda: False
    full_rate: float | None = None  # tokens per second, if all were as fast as the machine's matrix products


def run(
    plan: Plan,
    state: TrainState,
    step: Callable[[TrainState, Any], tuple[TrainState, Metrics]],
    next_batch: Callable[[], dict[str, Any]],
    log: MetricsLog,
) -> TrainState:
    """Run steps `plan.first` … `plan.last` − 1, or until the time is up, and return the state after them.

    The device is waited for only when a line is logged. Whether steps are skipped is seen there, and every
    `plan.stop_after` steps from a step that far back, which the device has long done: the loop stops at most three
    times `plan.stop_after` steps after the first of them, and the state is the one before it. Ctrl-C and SIGTERM end
    the loop after the step in progress, with a checkpoint; a second Ctrl-C ends it at once.

    Raises:
        BigsError: `plan.stop_after` steps in a row were skipped. No checkpoint is written.
        KeyboardInterrupt: it was asked to stop; the checkpoint is written.
    """
    done, waited, slots = plan.first, 0.0, 0
    ending = done >= plan.last or (done > 0 and plan.time_is_up())
    earlier: jax.Array | None = None
    with _stop_request() as stop, LiveView(plan.name, plan.first, plan.last, plan.full_rate) as view:
        since = time.perf_counter()
        while not ending:
            asked = time.perf_counter()
            batch = next_batch()
            waited += time.perf_counter() - asked
            slots += batch[TOKENS].size
            state, metrics = step(state, batch)
            in_a_row = metrics.pop("skipped_in_a_row")
            done += 1
            ending = done == plan.last or plan.time_is_up()
            if done % plan.stop_after == 0:
                if earlier is not None:
                    _check(plan, done - plan.stop_after, earlier)
                earlier = in_a_row
            if done % plan.log_every == 0 or ending or done == plan.first + 1:
                values = {name: shortest_float(value) for name, value in jax.device_get(metrics).items()}
                now = time.perf_counter()
                values |= {
                    "skipped": int(values["skipped"]),
                    "tokens_per_second": slots / (now - since),
                    "data_wait_fraction": waited / (now - since),
                }
                log.write(done, **values)
                view.show(values)
                if ending or (done != plan.first + 1 and not view.drawn):
                    err.print(_line(plan, done, values))
                _check(plan, done, in_a_row)
                since, waited, slots = now, 0.0, 0
            view.step()
            for task in plan.every:
                if done % task.steps == 0 and not ending:
                    started = time.perf_counter()
                    task.do(done, state)
                    since += time.perf_counter() - started
            ending = ending or plan.enough()
            if not ending and _stops(stop, done):
                saved = "a checkpoint is written" if plan.save(done, state) else "it was skipped, so nothing is written"
                err.print(f"Stopped after step {done:,}; {saved}. {plan.job.continue_with()}")
                raise KeyboardInterrupt
    return state


@contextmanager
def saved_if_stopped(save: Callable[[], bool], checkpoints: Checkpoints, done: int, job: Job) -> Iterator[None]:
    """Have a Ctrl-C in what follows the last step, a measurement, leave its checkpoint behind.

    Not of several processes, which write one together: the others may not have been asked to stop.
    """
    try:
        yield
    except KeyboardInterrupt:
        if jax.process_count() == 1 and done not in checkpoints.steps() and save():
            checkpoints.wait()
            err.print(f"Stopped after step {done:,}; a checkpoint is written. {job.continue_with()}")
        raise


def _stops(stop: threading.Event, done: int) -> bool:
    """Whether the run ends here. Several processes ask one another at every tenth step: they stop at the same one."""
    return stop.is_set() if jax.process_count() == 1 else done % 10 == 0 and any_process(stop.is_set())


def _check(plan: Plan, done: int, in_a_row: jax.Array) -> None:
    """Raise what `plan` says if the last `in_a_row` of `done` steps were skipped, and that is too many."""
    count = int(in_a_row)
    if count >= plan.stop_after:
        raise plan.broken(done - count + 1)


def _line(plan: Plan, step: int, values: dict[str, float]) -> str:
    """Return what is logged of a step as a line for a person, where nothing is drawn."""
    shown = [f"step {step:>{len(f'{plan.last:,}')},}/{plan.last:,}", f"loss {values['loss']:.4f}"]
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
