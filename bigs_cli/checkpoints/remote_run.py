"""A run at a URL: it is trained in a working copy in the cache, which is uploaded every half minute and at the end.

Files are uploaded in an order in which an interrupted upload leaves a run that can be resumed: the metrics log before
the checkpoint that continues it, the checksums of a checkpoint after its other files (without them, it does not exist),
and the results last. Object stores have no locks: one process at a time may train a run.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from bigs_cli.checkpoints.checksums import CHECKSUMS, steps
from bigs_cli.checkpoints.resume import RESUME, resume_command
from bigs_cli.checkpoints.run import ENVIRONMENT, START_FILES, RunFolder
from bigs_cli.checkpoints.sweep import PLAN
from bigs_cli.core.cache import cache_root
from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.remote import Remote, copy_path, remote, working_copy_of

Say = Callable[[str], object]

SECONDS = 30.0
"""Time between two uploads. Chosen by this project."""
_LAST = ("results.json", "seeds.json")
_STARTED = {"recipe.yaml", RESUME, PLAN}
"""Files of which a run, several seeds or a sweep has one when it has started."""
_FOLDERS = ("checkpoints", "best")


@contextmanager
def working_copy(url: str, command: str, resume: bool, say: Say) -> Iterator[Path]:
    """Yield the folder in which the run at `url` is trained by `bigs COMMAND`, and upload what is written there.

    `say` is called with messages.

    With `resume`, it has the files of the run. They are downloaded unless the folder has a later state, which an
    interrupted process could not upload. After the last upload, the folder is removed.

    Raises:
        RequestError: there is no run to resume, `url` is in use or cannot be used, another process is running in the
            folder, or without `resume`, the folder has a run that was not uploaded.
        BigsError: `url` cannot be reached.
    """
    place, folder = remote(url), working_folder(url)
    names, again = list(place.files()), resume_command(command, url)
    there, here = _has_started(names), _has_started(path.name for path in folder.glob("*"))
    if RunFolder(folder).running:
        raise RequestError(f"Another process is training {url}. Wait for it to finish, or name another place.")
    if not resume and (there or not set(names) <= START_FILES):
        remedy = f"Continue the run in it with `{again}`, or name" if there else "Name"
        raise RequestError(f"{url} is in use. {remedy} another place: --run {url}-2")
    if not resume and here:
        raise RequestError(
            f"A run at {url} was interrupted before it was uploaded. Continue it with `{again}`, or remove its working "
            f"copy: {folder}"
        )
    if resume and not there and not here:
        raise RequestError(f"There is no run to resume at {url}. Leave out --resume to start one.")
    place.check_writable()
    if there and not _is_newest(folder, place, names):
        shutil.rmtree(folder, ignore_errors=True)
        for name in _usable(names):
            place.get(name, folder / name)
    for name in set(names) - set(_usable(names)):  # left by an interrupted upload
        place.remove(name)
    folder.mkdir(parents=True, exist_ok=True)
    say(f"Run: {url} (working copy: {folder})")
    with working_copy_of(url, folder), Mirror(folder, place, _usable(names), say):
        yield folder
    shutil.rmtree(folder)


def working_folder(url: str) -> Path:
    """Return the path of the working copy of the run at a URL. It exists from the start of the run to its upload."""
    return cache_root() / "runs" / copy_path(url).parent.name / copy_path(url).name


def _has_started(names: Iterable[str]) -> bool:
    return not _STARTED.isdisjoint(name.rpartition("/")[2] for name in names)


def needed_by_model(names: list[str]) -> list[str]:
    """Return, of the `names` of the files of a run or a model folder, those from which the model is opened."""
    complete = [folder for folder in _complete(names) if folder.count("/") == 1]
    if "recipe.yaml" not in names or not complete:
        return names
    best = [folder for folder in complete if folder.startswith("best/")]
    newest = max(best or complete, key=lambda folder: int(folder.rpartition("/")[2]))
    inside = [name for name in names if _checkpoint_of(name) == newest and name.split("/")[2] != "optimizer"]
    return [*(name for name in names if "/" not in name), *inside]


def _checkpoint_of(name: str) -> str | None:
    """Return the folder of the checkpoint that a file belongs to, as checkpoints/100 or seed-42/best/100, if any."""
    parts = name.split("/")
    for at, part in enumerate(parts[:-2]):
        if part in _FOLDERS and parts[at + 1].isdigit():
            return "/".join(parts[: at + 2])
    return None


def _complete(names: Iterable[str]) -> set[str]:
    """Return the folders of the checkpoints that have all of their files."""
    return {name.removesuffix(f"/{CHECKSUMS}") for name in names if name.endswith(f"/{CHECKSUMS}")}


def _usable(names: Iterable[str]) -> list[str]:
    """Return the names without those of incomplete checkpoints and of temporary files."""
    names = list(names)
    complete = _complete(names)
    inside = {name: _checkpoint_of(name) for name in names}
    return [
        name
        for name, folder in inside.items()
        if folder in complete
        or (folder is None and not any(part.startswith(".") or part in _FOLDERS for part in name.split("/")))
    ]


def _order(name: str) -> tuple[int, str, bool]:
    """Return the position of a file in an upload: see the top of this file."""
    folder, file = _checkpoint_of(name), name.rpartition("/")[2]
    if folder is None:
        return (4 if file in _LAST else 1 if file in _STARTED else 0), "", False
    return (2 if "best" in folder.split("/") else 3), folder, file == CHECKSUMS


def _is_newest(folder: Path, place: Remote, names: list[str]) -> bool:
    """Return whether `folder` has the run with the files `names` at `place`, in the same state or a later one."""
    runs = [name for name in names if name.rpartition("/")[2] == ENVIRONMENT]
    for name in runs:
        here = folder / name
        if not here.is_file() or here.read_bytes() != place.read(name):
            return False
    for checkpoint in _complete(names):
        parent, _, step = checkpoint.rpartition("/")
        if max(steps(folder / parent), default=0) < int(step):
            return False
    return bool(runs) and all((folder / name).is_file() for name in names if name.rpartition("/")[2] in _LAST)


class Mirror:
    """Uploads the files of a folder in a thread while this context lasts, and once more when it ends.

    An upload that fails is tried again with the next one.
    """

    def __init__(self, folder: Path, place: Remote, there: Iterable[str], say: Say) -> None:
        """`there` are the names of the files at `place`. Checkpoints that are also in the folder are the same ones."""
        self._folder, self._place, self._say = folder, place, say
        self._sent = {name: _version(folder / name) if _checkpoint_of(name) else None for name in there}
        self._stop, self._failed = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="upload", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        try:
            self.upload()
        except (BigsError, OSError) as problem:
            raise BigsError(
                f"The run could not be uploaded. {problem} Its files are in {self._folder}; to upload them, resume the "
                "run from this machine."
            ) from problem

    def _run(self) -> None:
        while not self._stop.wait(SECONDS):
            try:
                self.upload()
                self._failed = False
            except (BigsError, OSError) as error:
                if not self._failed:
                    self._say(f"The run is trained on, but not uploaded for now: {error}")
                self._failed = True

    def upload(self) -> None:
        """Upload what is new, and delete there what was deleted here.

        Raises:
            RequestError, BigsError: as `Remote.put`, and if the bucket is gone.
        """
        names = _listing(self._folder)
        gone: set[str] = set()
        for name in sorted(names, key=_order):
            path, checkpoint = self._folder / name, _checkpoint_of(name)
            version = _version(path)
            if (checkpoint or "") in gone or (version is not None and self._sent.get(name) == version):
                continue
            try:
                self._place.put(path, name)
            except FileNotFoundError:
                if path.exists():
                    raise BigsError(
                        f"{self._place.url} cannot be written: its bucket does not exist any more."
                    ) from None
                if checkpoint is not None:  # deleted meanwhile, as old checkpoints are
                    gone.add(checkpoint)
                continue
            self._sent[name] = version
        for name in sorted(self._sent.keys() - set(names), key=lambda name: not name.endswith(CHECKSUMS)):
            self._place.remove(name)
            del self._sent[name]


def _listing(folder: Path) -> list[str]:
    """Return the names of the files to upload.

    Training states are listed before the best parameters and the metrics log, so that these are not older.
    """
    states, best, others = (
        [path.relative_to(folder).as_posix() for path in folder.glob(pattern) if path.is_file()]
        for pattern in ("**/checkpoints/*/**/*", "**/best/*/**/*", "**/*")
    )
    return _usable([*states, *best, *(name for name in others if _checkpoint_of(name) is None)])


def _version(path: Path) -> tuple[int, int] | None:
    """Return size and modification time of a file; None if it does not exist."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_size, state.st_mtime_ns
