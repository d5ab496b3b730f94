"""Running steps: logging, work every so many steps, and a stop that loses nothing."""

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

from bigs_cli.core.processes import any_of
from bigs_cli.reporting.console import err, progress
from bigs_cli.reporting.metrics_log import MetricsLog
from bigs_cli.training.state import Metrics, TrainState

TOKENS = "input_ids"  # the array of a batch `[B, L]` whose size counts its tokens, padding included


@dataclass(frozen=True)
class Every:
    """Call `do(step, state)` after every `steps`-th step."""

    steps: int
    do: Callable[[int, TrainState], object]


@dataclass(frozen=True)
class Plan:
    """How many steps, from where, and what else happens on the way."""

    name: str
    first: int
    last: int
    log_every: int
    every: tuple[Every, ...]
    save: Callable[[int, TrainState], None]


def run(
    plan: Plan,
    state: TrainState,
    step: Callable[[TrainState, Any], tuple[TrainState, Metrics]],
    next_batch: Callable[[], dict[str, Any]],
    log: MetricsLog,
) -> TrainState:
    """Run steps `plan.first` … `plan.last` − 1 and return the state after them.

    The device is waited for only when a line is logged. Ctrl-C and SIGTERM end the loop after the step in
    progress, with a checkpoint; a second Ctrl-C ends it at once.

    Raises:
        KeyboardInterrupt: it was asked to stop; the checkpoint is written.
    """
    done, waited, slots = plan.first, 0.0, 0
    with _stop_request() as stop, progress(plan.name, plan.last, "step") as advance:
        advance(plan.first)
        since = time.perf_counter()
        while done < plan.last:
            asked = time.perf_counter()
            batch = next_batch()
            waited += time.perf_counter() - asked
            slots += batch[TOKENS].size
            state, metrics = step(state, batch)
            done += 1
            if done % plan.log_every == 0 or done == plan.last or done == plan.first + 1:
                values = {name: float(value) for name, value in jax.device_get(metrics).items()}
                now = time.perf_counter()
                values |= {
                    "tokens_per_second": slots / (now - since),
                    "data_wait_fraction": waited / (now - since),
                }
                log.write(done, **values)
                if done != plan.first + 1 or plan.last - plan.first == 1:
                    err.print(_line(plan, done, values))
                since, waited, slots = now, 0.0, 0
            advance(1)
            for task in plan.every:
                if done % task.steps == 0 and done < plan.last:
                    started = time.perf_counter()
                    task.do(done, state)
                    since += time.perf_counter() - started
            if done < plan.last and _stops(stop, done):
                plan.save(done, state)
                err.print(f"Stopped after step {done}; a checkpoint is written. Continue with --resume.")
                raise KeyboardInterrupt
    return state


def _stops(stop: threading.Event, done: int) -> bool:
    """Whether the run ends here. Several processes ask one another at every tenth step: they stop at the same one."""
    return stop.is_set() if jax.process_count() == 1 else done % 10 == 0 and any_of(stop.is_set())


def _line(plan: Plan, step: int, values: dict[str, float]) -> str:
    shown = [f"step {step:>{len(str(plan.last))}}/{plan.last}", f"loss {values['loss']:.4f}"]
    if "accuracy" in values:
        shown.append(f"accuracy {values['accuracy']:.3f}")
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
