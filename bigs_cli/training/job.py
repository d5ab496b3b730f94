"""A run folder to train in, and how its run is resumed after a stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import jax

from bigs_cli.checkpoints.checksums import steps
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.resume import ResumeRecord, read_record, write_record
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core import processes
from bigs_cli.core.environment import describe_environment
from bigs_cli.core.errors import RequestError
from bigs_cli.recipe import Recipe, dump_recipe


@dataclass(frozen=True)
class Job:
    """A new run in `folder` or, with `resume`, the one that is there.

    `record` becomes the folder's resume.json, and `command` is what is printed to resume the run. Several seeds share
    the folder `root`, which has the record of them all; each of their folders has one of its own.
    """

    folder: RunFolder
    record: ResumeRecord
    command: str
    resume: bool = False
    root: Path | None = None

    @property
    def needs_start(self) -> bool:
        """Whether the run begins with its initial parameters, and not with a checkpoint."""
        return not (self.resume and steps(self.folder.checkpoints))

    def start(self, recipe: Recipe, start: OpenModel | None, write: Callable[[Path], object]) -> None:
        """Lay out the folder of a new run, with what `write` writes, or check that the one there can be resumed.

        Call it under `folder.lock`, in the process that writes; `start` is the model that initial parameters come from.

        Raises:
            RequestError: as `RunFolder.start`; or a run without a checkpoint started from other parameters.
        """
        if self.resume and start is not None:
            check_start_digest(self.folder, start)
        environment = {}
        if not self.resume:
            environment = describe_environment() | ({} if start is None else {"start": start.digest})

        def more(path: Path) -> None:
            write(path)
            self.update_record()

        self.folder.start(dump_recipe(recipe), environment, self.resume, more)

    def announce(self) -> None:
        """Have messages about other processes say how the run is resumed. Call it in every process."""
        processes.set_resume_command(self.command)

    def update_record(self) -> None:
        """Write the record, where the one that is there says otherwise. Call it in the process that writes."""
        records = {self.folder.path: self.record}
        if self.root is not None:
            records = {self.root: self.record, self.folder.path: self.record.model_copy(update={"seeds": 1})}
        for folder, record in records.items():
            if read_record(folder) != record:
                write_record(folder, record)

    def continue_with(self) -> str:
        """Return the words before and the command that resume the run: the end of a message."""
        if jax.process_count() == 1:
            return f"Continue with: {self.command}"
        return f"Continue by starting every process again, this one with: {self.command}"


def seed_jobs(job: Job, first: int) -> list[Job]:
    """Return a job for each of the seeds of `job`, from `first` on, in folders of their own below its folder."""
    root = job.folder.path
    folders = [RunFolder(root / f"seed-{first + number}") for number in range(job.record.seeds)]
    return [replace(job, folder=folder, root=root, resume=job.resume and folder.is_run) for folder in folders]


def check_start_digest(folder: RunFolder, start: OpenModel) -> None:
    """Refuse a model that is not the one which the run in `folder` started from, though it has the same name.

    Raises:
        RequestError: it was changed since.
    """
    digest = folder.environment().get("start")
    if digest not in (None, start.digest):
        raise RequestError(
            f"{start.source} has changed since {folder.path} started from it. Put back the model as it was, or start a "
            f"new run: --run {folder.path}-2"
        )
