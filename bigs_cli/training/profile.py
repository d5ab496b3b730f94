"""`--profile`: a trace of a few training steps, for xprof or Perfetto."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from bigs_cli.reporting.console import err

SKIPPED, STEPS = 5, 10
"""The trace begins after `SKIPPED` steps, when everything is compiled, and has `STEPS` steps."""


@contextlib.contextmanager
def trace(folder: Path) -> Iterator[None]:
    """Write a trace of the body to `folder`/plugins/profile/TIME, and print how to open it.

    Python calls are left out: they slow the body down, and nearly all of them are outside bigs.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(folder, create_perfetto_trace=True, profiler_options=options):
        yield
    file = max(folder.glob("plugins/profile/*/perfetto_trace.json.gz"))
    err.print(f"Wrote a profile. Open {file} at https://ui.perfetto.dev, or the folder {folder} with xprof.")


class StepProfiler:
    """Traces a few steps of a training loop to `folder`; None: none. Use it as a context around the loop."""

    def __init__(self, folder: Path | None, first: int) -> None:
        self._folder, self._steps = folder, range(first + SKIPPED, first + SKIPPED + STEPS)
        self._trace, self._started = contextlib.ExitStack(), False

    def __enter__(self) -> StepProfiler:
        return self

    def __exit__(self, *error: object) -> None:
        self._trace.close()
        if self._folder is not None and not self._started:
            err.print(f"No profile was written: it begins after {SKIPPED} steps, and there were fewer.")

    def step(self, step: int) -> contextlib.AbstractContextManager[object]:
        """Return a context for step `step`, counted from 0. The trace begins with the first of its steps."""
        if self._folder is not None and step == self._steps.start:
            self._trace.enter_context(trace(self._folder))
            self._started = True
        return jax.profiler.StepTraceAnnotation("train", step_num=step)

    def end(self, step: int, outputs: Any) -> None:
        """End the trace if `step` is its last, once the `outputs` of the step are computed."""
        if self._folder is not None and step == self._steps.stop - 1:
            jax.block_until_ready(outputs)
            self._trace.close()
