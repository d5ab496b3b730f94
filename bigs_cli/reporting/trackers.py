"""Where a run's figures go besides metrics.jsonl: TensorBoard, Weights & Biases, if asked for.

To add one: a class with `write` and `close`, and an entry of `TRACKERS`; the recipe key `loggers` and --logger name it.
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


class Tracker(Protocol):
    """Takes a run's figures as they come."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Take the figures of a step; steps do not come back."""
        ...

    def close(self) -> None:
        """Send what is still held back."""
        ...


class TensorBoard:
    """Event files in the run's folder `tensorboard/`: tensorboard --logdir runs"""

    def __init__(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out what is in memory."""
        self._writer.close()


class Wandb:
    """A run on wandb.ai, or in $WANDB_MODE's way; a resumed run goes on in the same one.

    Project and entity are those of $WANDB_PROJECT (default: bigs) and $WANDB_ENTITY.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        known = folder / "wandb-id.txt"
        name = known.read_text(encoding="utf-8").strip() if known.is_file() else secrets.token_hex(4)
        project = os.environ.get("WANDB_PROJECT") or "bigs"
        self._run = wandb.init(
            project=project, name=folder.name, id=name, resume="allow", dir=str(folder), config=dict(recipe)
        )
        known.write_text(f"{name}\n", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the figures of a step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Wait until all is sent."""
        self._run.finish()


class _Kind(NamedTuple):
    """How a tracker is made, from the run's folder and recipe, and what it needs: a module, and our extra for it."""

    make: Callable[[Path, Mapping[str, Any]], Tracker]
    module: str
    extra: str


TRACKERS: dict[str, _Kind] = {
    "tensorboard": _Kind(TensorBoard, "tensorboardX", "tensorboard"),
    "wandb": _Kind(Wandb, "wandb", "wandb"),
}


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are unknown or not installed. Nothing is imported.

    Raises:
        RequestError: one is.
    """
    for name in names:
        if name not in TRACKERS:
            raise RequestError(f"There is no tracker '{name}'.{did_you_mean(name, TRACKERS)} Known: {_listed()}.")
        if importlib.util.find_spec(TRACKERS[name].module) is None:
            raise RequestError(
                f"Tracking with {name} needs the package {TRACKERS[name].module}: pip install "
                f"'bigs[{TRACKERS[name].extra}]'. Or leave out --logger {name}; metrics.jsonl has all metrics."
            )


@contextlib.contextmanager
def tracking(names: Sequence[str], folder: Path, recipe: Mapping[str, Any], resume: str) -> Iterator[Write]:
    """Open the trackers called `names` for the run in `folder`; yield what writes to all; close them whatever happens.

    `resume` is the command that resumes the run. A tracker that fails on the way is told of and left out from there on:
    it is no reason to end a run.

    Raises:
        RequestError: as `check_trackers` does.
        BigsError: one cannot be started, such as wandb without an account.
    """
    check_trackers(names)
    opened: dict[str, Tracker] = {}

    def each(do: Callable[[Tracker], None]) -> None:
        for name, tracker in list(opened.items()):
            try:
                do(tracker)
            except Exception as error:  # each package has errors of its own
                err.print(f"{name} failed and gets no more figures; metrics.jsonl has them all: {error}")
                del opened[name]

    try:
        for name in dict.fromkeys(names):
            try:
                opened[name] = TRACKERS[name].make(folder, recipe)
            except Exception as error:
                raise BigsError(
                    f"{name} could not be started: {str(error).rstrip('.')}. Solve that and continue with "
                    f"`{resume}`, or start a new run without --logger {name}."
                ) from error
        yield lambda step, values: each(lambda tracker: tracker.write(step, values))
    finally:
        each(lambda tracker: tracker.close())


def _listed() -> str:
    return ", ".join(TRACKERS)
