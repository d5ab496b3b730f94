"""Preparing a run: its folder, its initial parameters, and the command that resumes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

from bigs_cli.checkpoints.checksums import steps
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.resume import ResumeRecord, read_record, write_record
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.checkpoints.sweep import other_seeds
from bigs_cli.checkpoints.transfer import transfer
from bigs_cli.checkpoints.untrained import untrained_layers
from bigs_cli.core.environment import describe_environment
from bigs_cli.core.errors import RequestError
from bigs_cli.core.processes import is_main_process
from bigs_cli.models.functional import Parameters, parameter_shapes
from bigs_cli.models.init import init_parameters
from bigs_cli.models.published import to_flat, to_tree
from bigs_cli.recipe import BiGSConfig, Recipe, dump_recipe, load_run_recipe
from bigs_cli.reporting.console import err


@dataclass(frozen=True)
class Job:
    """A new run in `folder`, or, with `resume`, the existing run there.

    `record` becomes the folder's resume.json, and `command` is the printed command that resumes the run. A time budget
    begins at `started`, a time of `time.perf_counter`. A trace of a few steps is written to `profile`.
    """

    folder: RunFolder
    record: ResumeRecord
    command: str
    resume: bool = False
    profile: Path | None = None
    started: float = field(default_factory=time.perf_counter)

    @property
    def needs_start(self) -> bool:
        """Whether the run starts from initial parameters rather than from a checkpoint."""
        return not (self.resume and steps(self.folder.checkpoints))

    def start(self, recipe: Recipe, start: OpenModel | None, write: Callable[[Path], object]) -> None:
        """Create the folder of a new run, to which `write` adds files, or check that the existing run can be resumed.

        Call it under `folder.lock`, in the main process; `start` is the model that provides the initial parameters.

        Raises:
            RequestError: as `RunFolder.start`; or a run without a checkpoint, or with another seed and otherwise the
                same setting, was started from other parameters or with another recipe.
        """
        for other in () if self.resume else other_seeds(self.folder):
            _check_recipe(other, recipe)
            if start is not None:
                check_start_digest(other, start)
        if self.resume and start is not None:
            check_start_digest(self.folder, start)
        environment = {}
        if not self.resume:
            environment = describe_environment() | ({} if start is None else {"start": start.digest})

        def write_all(path: Path) -> None:
            write(path)
            self.update_record()

        self.folder.start(dump_recipe(recipe), environment, self.resume, write_all)

    @contextmanager
    def discarded_if_refused(self) -> Iterator[None]:
        """Remove the files of a new run without a checkpoint if it is refused, for example because of its data.

        Call it under `folder.lock`, after `start`.
        """
        try:
            yield
        except RequestError:
            if not self.resume and is_main_process() and not steps(self.folder.checkpoints):
                self.folder.clear()
            raise

    def update_record(self) -> None:
        """Write the record unless it is up to date. Call it in the main process."""
        if read_record(self.folder.path) != self.record:
            write_record(self.folder.path, self.record)

    def continue_with(self) -> str:
        """Return a sentence on how to resume the run, to end a message with."""
        if jax.process_count() == 1:
            return f"Continue with: {self.command}"
        return f"To continue, start every process again; the command of this one is: {self.command}"


def _check_recipe(other: RunFolder, recipe: Recipe) -> None:
    """Check that a run of another seed has the same recipe, except for what may differ: the place of the data, steps.

    Raises:
        RequestError: it has another recipe.
    """

    def fixed(of: Recipe) -> dict[str, Any]:
        values = of.model_dump(mode="json", by_alias=True)
        return {key: values[key] for key in values.keys() - {"seed", "steps", "budget", "data", "files"}}

    theirs = fixed(load_run_recipe(other.recipe_file))
    if different := sorted(key for key, value in fixed(recipe).items() if theirs.get(key) != value):
        raise RequestError(
            f"The recipe differs from that of the other seed in {other.path} ({', '.join(different)}). Restore it, or "
            f"train all seeds again: --run {other.path.parent}-2"
        )


def check_start_digest(folder: RunFolder, start: OpenModel) -> None:
    """Check that `start` is unchanged since the run in `folder` started from it.

    Raises:
        RequestError: it has changed.
    """
    digest = folder.environment().get("start")
    if digest not in (None, start.digest):
        raise RequestError(
            f"{start.source} has changed since {folder.path} started from it. Restore the model, or start a new run: "
            f"--run {folder.path}-2"
        )


def initial_parameters(config: BiGSConfig, seed: int, start: OpenModel | None) -> tuple[Parameters, set[str]]:
    """Return the initial parameters of a run, on the host, and the published paths of those that were never trained.

    Parameters that `start` also has are copied from it; the others are initialized. Without `start`, no paths are
    returned. A message on stderr lists the transferred parameters.

    Raises:
        RequestError: the encoder of `start` differs from `config`.
    """
    params = init_parameters(parameter_shapes(config), config, seed)
    if start is None:
        return params, set()
    new = to_flat(params, config)
    flat, report = transfer(start.flat, start.config, config, lambda path, shape: new[path])
    err.print(f"Starting from {start.source}:\n{report.describe()}")
    untrained = {*report.new, *(f"{layer}/kernel" for layer in untrained_layers(flat, config))}
    return to_tree(flat, config), untrained
