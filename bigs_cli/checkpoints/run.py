"""A run folder: everything one training run was given, did and made.

recipe.yaml, environment.json, config.json, tokenizer.json: what is needed to understand and repeat it;
resume.json: where its inputs are, for --resume;
metrics.jsonl: its course; checkpoints/: training states; best/: the best parameters (fine-tuning);
results.json: written last, so a run with it is finished.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bigs_cli.checkpoints.resume import RESUME, resume_command_of
from bigs_cli.core.error_messages import read_error, write_error
from bigs_cli.core.errors import RequestError, did_you_mean
from bigs_cli.core.files import atomic_write, parse_json, write_json
from bigs_cli.core.folders import check_link
from bigs_cli.core.paths import check_local

LOCK = ".lock"
ENVIRONMENT = "environment.json"
SUITE_PLAN = "suite.json"
_BEGINNING = {
    *(ENVIRONMENT, RESUME, "recipe.yaml", "config.json"),
    *("tokenizer.json", "vocab.txt", "tokenizer_config.json"),
}
_PUT_BACK = "Put back a copy of it, or leave this run out."


def runs_root() -> Path:
    """Return where runs lie: $BIGS_RUNS, or `runs` in the working directory.

    Raises:
        RequestError: $BIGS_RUNS is an address.
    """
    given = os.environ.get("BIGS_RUNS") or "runs"
    check_local(given, "$BIGS_RUNS: ")
    return Path(given)


class _Results(BaseModel):
    """What is read of results.json, which holds more."""

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
    """What is read of environment.json by name; the rest is only shown."""

    packages: dict[str, str | None] = {}


@dataclass(frozen=True)
class RunFolder:
    """The files of the run at `path`."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe: enough to run it again."""
        return self.path / "recipe.yaml"

    @property
    def metrics_file(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Training states, to go on from."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The parameters that did best on the task's first metric."""
        return self.path / "best"

    @property
    def results_file(self) -> Path:
        """What the run ended with."""
        return self.path / "results.json"

    @property
    def predictions_file(self) -> Path:
        """What the best parameters say of every dev example, one JSON object a line (fine-tuning)."""
        return self.path / "predictions.jsonl"

    @property
    def is_run(self) -> bool:
        """Whether this folder is a run's."""
        return self.recipe_file.is_file()

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.results_file.is_file()

    @property
    def running(self) -> bool:
        """Whether a process of this machine is at work in it: it holds the lock."""
        try:
            with (self.path / LOCK).open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def results(self) -> dict[str, Any]:
        """Return what results.json says.

        Raises:
            RequestError: it is absent or garbled.
        """
        if not self.finished:
            raise RequestError(f"{self.path} has no results.json: the run is not finished.")
        return _read_object(self.results_file, _Results)

    def environment(self) -> dict[str, Any]:
        """Return what environment.json says: versions, machine and command the run was started with.

        Raises:
            RequestError: it is absent or garbled.
        """
        return _read_object(self.path / ENVIRONMENT, _Environment)

    def check(self, resume: bool) -> None:
        """Refuse a new run on a folder in use, or to resume where there is no run. Changes nothing.

        Raises:
            RequestError: one of these.
        """
        if resume:
            if not self.is_run:
                raise RequestError(f"There is no run to resume at {self.path}. Leave out --resume to start one there.")
        elif self.path.exists() and not self.path.is_dir():
            raise RequestError(f"{self.path} is a file. Name a folder with --run.")
        elif self.path.exists() and not self._unbegun():
            begun = self.is_run or (self.path / RESUME).is_file()
            go_on = f"Continue the run in it with `{resume_command_of(self.path)}`, or name" if begun else "Name"
            if self.running:
                go_on = "Another process is running in it: wait for it to end, or name"
            raise RequestError(f"The folder {self.path} is in use. {go_on} another folder with --run {self.path}-2.")

    def start(
        self, recipe: str, environment: dict[str, Any], resume: bool, more: Callable[[Path], object] = lambda path: None
    ) -> None:
        """Lay out the folder for a new run, or check that one can be resumed. Call it under `lock`.

        The recipe, which makes the folder a run's, is written last: `more` writes all else that one begins with.

        Raises:
            RequestError: a new run on a folder in use, or nothing to resume.
        """
        self.check(resume)
        if resume:
            return
        write_json(self.path / ENVIRONMENT, environment)
        more(self.path)
        with atomic_write(self.recipe_file, "w") as file:
            file.write(recipe)
        self._be_the_newest()

    def _unbegun(self) -> bool:
        """Whether the folder is empty, but for what a start that was cut short has left: it has no recipe yet."""
        names = [entry.name for entry in self.path.iterdir() if entry.name != LOCK]
        wholes = [name.removeprefix(".").rpartition(".")[0] if name.startswith(".") else name for name in names]
        return not names or (ENVIRONMENT in wholes and set(wholes) <= _BEGINNING and not self.is_run)

    def _be_the_newest(self) -> None:
        """See to it that this run counts as newer than those beside it, whatever became of the clock meanwhile."""
        newest = max(run.recipe_file.stat().st_mtime_ns for run in [self, *runs(), *runs(self.path.parent)])
        if self.recipe_file.stat().st_mtime_ns < newest:
            os.utime(self.recipe_file, ns=(newest + 1, newest + 1))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one process; the lock ends with the process, however that ends.

        Raises:
            RequestError: another process holds it, or the folder cannot be written.
        """
        place = self.path / LOCK
        new = [path for path in (place, self.path, *self.path.parents) if not path.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = place.open("a")
        except OSError as error:
            raise write_error(f"The run folder {self.path}", error, "Name another one with --run.") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RequestError(
                    f"Another process is running in {self.path}. Wait for it to end, or name another folder with --run."
                ) from None
            try:
                yield
            except RequestError:
                if place in new:  # A refused request leaves nothing behind.
                    place.unlink()
                    with contextlib.suppress(OSError):
                        for path in new[1:]:
                            path.rmdir()
                raise


def runs(root: Path | None = None) -> list[RunFolder]:
    """Return the runs under `root` (default `runs_root()`), the newest first by when their recipe was written.

    Those of a suite or of several seeds lie up to two folders further down: glue/mrpc/seed-42. A run that links lead
    to is listed once, under its own name if that is under `root`.

    Raises:
        RequestError: `root` cannot be read.
    """
    root = root or runs_root()
    if root.is_dir() and not os.access(root, os.R_OK | os.X_OK):
        raise RequestError(f"{root} cannot be read: permission denied. Have its rights changed, or use another folder.")
    places = [place.parent for depth in ("*", "*/*", "*/*/*") for place in root.glob(f"{depth}/recipe.yaml")]
    found: dict[Path, RunFolder] = {}
    for path in sorted(places, key=lambda path: (len(path.parts), path.is_symlink(), path)):
        found.setdefault(path.resolve(), RunFolder(path))
    return sorted(found.values(), key=lambda run: (run.recipe_file.stat().st_mtime_ns, run.path.name), reverse=True)


def find_run(name: str) -> RunFolder:
    """Return the run that `name` means: a folder, or a run's name under `runs_root()`.

    Raises:
        RequestError: it is no run.
    """
    check_local(name)
    for place in (Path(name), runs_root() / name):
        check_link(place)
        if RunFolder(place).is_run:
            return RunFolder(place)
    if Path(name).exists():
        raise RequestError(f"{name} is no run: it has no recipe.yaml. `bigs runs list` shows the runs here.")
    raise RequestError(
        f"There is no run '{name}', here or under {runs_root()}/.{did_you_mean(name, (r.path.name for r in runs()))} "
        "`bigs runs list` shows the runs here."
    )


def _read_object(path: Path, schema: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON object in a file, of which what `schema` names is as it says.

    Raises:
        RequestError: it cannot be read, is no JSON object, or one that `schema` does not allow.
    """
    try:
        read = parse_json(path.read_bytes())
        if not isinstance(read, dict):
            raise RequestError(f"{path} holds no JSON object. {_PUT_BACK}")
        schema.model_validate(read)
    except OSError as error:
        raise read_error(path, error) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise RequestError(f"{path} is garbled: {where}: {first['msg']}. {_PUT_BACK}") from None
    except ValueError as error:
        raise RequestError(f"{path} is no JSON: {error}. {_PUT_BACK}") from error
    return read
