"""The run folder.

recipe.yaml, environment.json, config.json, tokenizer.json: to understand and repeat the run;
resume.json: the inputs of the run, for --resume;
metrics.jsonl: the metrics log; checkpoints/: training states; best/: the best parameters (fine-tuning);
results.json: written last, so a run with this file is finished.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bigs_cli.checkpoints.resume import RESUME, resume_command_of
from bigs_cli.core.error_messages import write_error
from bigs_cli.core.errors import RequestError, did_you_mean
from bigs_cli.core.files import atomic_write, write_json
from bigs_cli.core.folders import check_link
from bigs_cli.core.json_objects import checked, read_object
from bigs_cli.core.paths import check_local

LOCK = ".lock"
ENVIRONMENT = "environment.json"
START_FILES = {
    *(ENVIRONMENT, RESUME, "recipe.yaml", "config.json"),
    *("tokenizer.json", "vocab.txt", "tokenizer_config.json"),
}
"""The files that are written before the first step."""
_RESTORE = "Restore it from a backup, or leave this run out."


def runs_root() -> Path:
    """Return the folder of the runs: $BIGS_RUNS, or `runs` in the working directory.

    Raises:
        RequestError: $BIGS_RUNS is a URL.
    """
    root = os.environ.get("BIGS_RUNS") or "runs"
    check_local(root, "$BIGS_RUNS: ")
    return Path(root)


class _Results(BaseModel):
    """The fields of results.json that are read. The file has more."""

    metrics: dict[str, float | None]
    splits: dict[str, dict[str, float | None]] = {}
    steps: int
    seconds: float
    step: int = 0
    seed: int = 0
    length: int = 0
    parameters: int = 0
    task: str = ""
    data: dict[str, Any] = {}


class _Environment(BaseModel):
    """The fields of environment.json that are read. The file has more."""

    packages: dict[str, str | None] = {}


@dataclass(frozen=True)
class RunFolder:
    """The files of the run at `path`."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def metrics_file(self) -> Path:
        """The metrics log, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The training states, for --resume."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The parameters with the best value of the task's first metric (fine-tuning)."""
        return self.path / "best"

    @property
    def pushes(self) -> Path:
        """Checkpoints that wait to be pushed to the hub."""
        return self.path / ".pushes"

    @property
    def results_file(self) -> Path:
        """The final results."""
        return self.path / "results.json"

    @property
    def predictions_file(self) -> Path:
        """The predictions of the best parameters for all dev examples, one JSON object per line (fine-tuning)."""
        return self.path / "predictions.jsonl"

    @property
    def is_run(self) -> bool:
        """Whether this is the folder of a run."""
        return self.recipe_file.is_file()

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        return self.results_file.is_file()

    @property
    def running(self) -> bool:
        """Whether a process on this machine holds the lock."""
        try:
            with (self.path / LOCK).open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def results(self) -> dict[str, Any]:
        """Return the content of results.json.

        Raises:
            RequestError: it is missing or corrupt.
        """
        if not self.finished:
            raise RequestError(f"{self.path} has no results.json: the run is not finished.")
        return _read_object(self.results_file, _Results)

    def environment(self) -> dict[str, Any]:
        """Return the content of environment.json: the versions, the machine and the command of the run.

        Raises:
            RequestError: it is missing or corrupt.
        """
        return _read_object(self.path / ENVIRONMENT, _Environment)

    def check(self, resume: bool) -> None:
        """Check that a new run can start in this folder, or with `resume`, that there is a run. Changes nothing.

        Raises:
            RequestError: the folder is in use, or there is no run to resume.
        """
        if resume:
            if not self.is_run:
                raise RequestError(f"There is no run to resume in {self.path}. Leave out --resume to start one.")
        elif self.path.exists() and not self.path.is_dir():
            raise RequestError(f"{self.path} is a file. Name a folder with --run.")
        elif self.path.exists() and not self._can_start():
            remedy = f"Continue the run in it with `{resume_command_of(self.path)}`, or name" if self.is_run else "Name"
            if self.running:
                remedy = "Another process is running in it: wait for it to finish, or name"
            raise RequestError(f"The folder {self.path} is in use. {remedy} another folder with --run {self.path}-2.")

    def start(
        self, recipe: str, environment: dict[str, Any], resume: bool, more: Callable[[Path], object] = lambda path: None
    ) -> None:
        """Write the files of a new run, or check that a run can be resumed. Call it while holding `lock`.

        `more` writes further files. The recipe, which marks the folder as a run, is written last.

        Raises:
            RequestError: as `check`.
        """
        self.check(resume)
        if resume:
            return
        write_json(self.path / ENVIRONMENT, environment)
        more(self.path)
        with atomic_write(self.recipe_file, "w") as file:
            file.write(recipe)
        self._make_newest()

    def clear(self) -> None:
        """Remove the files of a new run without a checkpoint. Call it while holding `lock`."""
        for name in (*START_FILES, self.metrics_file.name, "wandb-id.txt"):
            (self.path / name).unlink(missing_ok=True)
        for folder in (self.checkpoints, self.path / "tensorboard"):
            shutil.rmtree(folder, ignore_errors=True)

    def _can_start(self) -> bool:
        """Return whether the folder is empty, or only has files of an interrupted start and no recipe yet."""
        names = [entry.name for entry in self.path.iterdir() if entry.name != LOCK]
        # Temporary files are named .NAME.SUFFIX.
        targets = [name.removeprefix(".").rpartition(".")[0] if name.startswith(".") else name for name in names]
        return not names or (ENVIRONMENT in targets and set(targets) <= START_FILES and not self.is_run)

    def _make_newest(self) -> None:
        """Give this run a later modification time than all others, even if the clock was set back."""
        own = self.recipe_file.stat().st_mtime_ns
        times = map(_recipe_time, [*runs(), *runs(self.path.parent)])
        newest = max((time for time in times if time is not None), default=own)
        if own < newest:
            os.utime(self.recipe_file, ns=(newest + 1, newest + 1))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder for this process. The system releases the lock when the process ends.

        Raises:
            RequestError: another process holds the lock, or the folder cannot be written.
        """
        lock = self.path / LOCK
        new = [path for path in (lock, self.path, *self.path.parents) if not path.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = lock.open("a")
        except OSError as error:
            raise write_error(f"The run folder {self.path}", error, "Name another one with --run.") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RequestError(
                    f"Another process is running in {self.path}. Wait for it to finish, or name another folder with "
                    "--run."
                ) from None
            try:
                yield
            except RequestError:
                if lock in new:  # An invalid request leaves nothing behind.
                    lock.unlink()
                    with contextlib.suppress(OSError):
                        for path in new[1:]:
                            path.rmdir()
                raise


def runs(root: Path | None = None) -> list[RunFolder]:
    """Return the runs in `root` (default `runs_root()`), newest first by the modification time of the recipe.

    Runs of a suite or of several seeds are up to two levels deeper, as in glue/mrpc/seed-42. A run with links to it is
    listed once, under its real path if that is in `root`.

    Raises:
        RequestError: `root` cannot be read.
    """
    root = root or runs_root()
    if root.is_dir() and not os.access(root, os.R_OK | os.X_OK):
        raise RequestError(f"{root} cannot be read: permission denied. Change its permissions, or use another folder.")
    folders = [recipe.parent for depth in ("*", "*/*", "*/*/*") for recipe in root.glob(f"{depth}/recipe.yaml")]
    found: dict[Path, RunFolder] = {}
    for path in sorted(folders, key=lambda path: (len(path.parts), path.is_symlink(), path)):
        found.setdefault(path.resolve(), RunFolder(path))
    times = {run: time for run in found.values() if (time := _recipe_time(run)) is not None}
    return sorted(times, key=lambda run: (times[run], run.path.name), reverse=True)


def _recipe_time(run: RunFolder) -> int | None:
    """Return the modification time of a recipe in nanoseconds; None if another process has removed the run."""
    try:
        return run.recipe_file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def find_run(name: str) -> RunFolder:
    """Return the run in the folder `name`, or with that name in `runs_root()`.

    Raises:
        RequestError: there is no such run.
    """
    check_local(name)
    for path in (Path(name), runs_root() / name):
        check_link(path)
        if RunFolder(path).is_run:
            return RunFolder(path)
    if Path(name).exists():
        raise RequestError(f"{name} is not a run: it has no recipe.yaml. `bigs runs list` lists the runs.")
    raise RequestError(
        f"There is no run '{name}', neither as a path nor in {runs_root()}/."
        f"{did_you_mean(name, (run.path.name for run in runs()))} `bigs runs list` lists the runs."
    )


def _read_object(path: Path, schema: type[BaseModel]) -> dict[str, Any]:
    value = read_object(path, _RESTORE)
    checked(value, schema, path, _RESTORE)
    return value
