"""Loggers, which receive a run's metrics in addition to metrics.jsonl: TensorBoard and Weights & Biases.

To add one, write a class with `write` and `close` and add an entry to `LOGGERS`. The recipe key `loggers` and the
option --logger select it by name.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from bigs_cli.core.errors import BigsError, RequestError, did_you_mean
from bigs_cli.reporting.console import err

Write = Callable[[int, Mapping[str, float]], None]


class Logger(Protocol):
    """Receives the metrics of a run."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the metrics of a step; steps increase."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class TensorBoard:
    """Writes event files to the folder `tensorboard/` of the run, for `tensorboard --logdir runs`."""

    def __init__(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the metrics of a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class Wandb:
    """Logs to wandb.ai, or as $WANDB_MODE specifies. A resumed run continues the same wandb run.

    $WANDB_PROJECT (default: bigs) and $WANDB_ENTITY set the project and the entity.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        id_file = folder / "wandb-id.txt"
        run_id = id_file.read_text(encoding="utf-8").strip() if id_file.is_file() else secrets.token_hex(4)
        project = os.environ.get("WANDB_PROJECT") or "bigs"
        self._run = wandb.init(
            project=project, name=folder.name, id=run_id, resume="allow", dir=str(folder), config=dict(recipe)
        )
        id_file.write_text(f"{run_id}\n", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the metrics of a step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Wait until everything is uploaded."""
        self._run.finish()


class _Kind(NamedTuple):
    """How to open a logger from the run's folder and recipe; the module that it needs; our extra that installs it."""

    make: Callable[[Path, Mapping[str, Any]], Logger]
    module: str
    extra: str


LOGGERS: dict[str, _Kind] = {
    "tensorboard": _Kind(TensorBoard, "tensorboardX", "tensorboard"),
    "wandb": _Kind(Wandb, "wandb", "wandb"),
}


def check_loggers(names: Sequence[str]) -> None:
    """Check that loggers are known and installed, without importing them.

    Raises:
        RequestError: a logger is unknown or not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise RequestError(
                f"There is no logger '{name}'.{did_you_mean(name, LOGGERS)} Known: {', '.join(LOGGERS)}."
            )
        if importlib.util.find_spec(LOGGERS[name].module) is None:
            raise RequestError(
                f"The logger {name} requires the package {LOGGERS[name].module}: pip install "
                f"'bigs[{LOGGERS[name].extra}]'. Or leave out --logger {name}; metrics.jsonl has all metrics."
            )


@contextlib.contextmanager
def open_loggers(names: Sequence[str], folder: Path, recipe: Mapping[str, Any], resume: str) -> Iterator[Write]:
    """Open the loggers `names` for the run in `folder`, yield a function that writes to all, and close them.

    `resume` is the command that resumes the run. A logger that fails during the run is reported and disabled; the run
    continues.

    Raises:
        RequestError: as `check_loggers`.
        BigsError: a logger cannot be started, such as wandb without an account.
    """
    check_loggers(names)
    opened: dict[str, Logger] = {}

    def call_all(method: Callable[[Logger], None]) -> None:
        for name, logger in list(opened.items()):
            try:
                method(logger)
            except Exception as error:  # Each package has its own exceptions.
                err.print(f"{name} failed and receives no further metrics; metrics.jsonl has them all: {error}")
                del opened[name]

    try:
        for name in dict.fromkeys(names):
            try:
                opened[name] = LOGGERS[name].make(folder, recipe)
            except Exception as error:
                raise BigsError(
                    f"{name} could not be started: {str(error).rstrip('.')}. Fix this and continue with "
                    f"`{resume}`, or start a new run without --logger {name}."
                ) from error
        yield lambda step, values: call_all(lambda logger: logger.write(step, values))
    finally:
        call_all(lambda logger: logger.close())
