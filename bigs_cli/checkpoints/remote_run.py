"""A run at a URL: it is trained in a working copy in the cache, which is uploaded every half minute and at the end.

Files are uploaded in an order in which an interrupted upload leaves a run that can be resumed: the metrics log before
the checkpoint that continues it, the checksums of a checkpoint after its other files (without them, it does not exist),
the recipe, which marks the folder as a run, after the other files of its start, and the results last. A checkpoint at
the URL is deleted only when a later one is there. Object stores have no locks: one command at a time may train a run.
Of several processes, process 0 has the working copy and sends the others what they need of it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from bigs_cli.checkpoints.checksums import CHECKSUMS, steps
from bigs_cli.checkpoints.resume import resume_command
from bigs_cli.checkpoints.run import ENVIRONMENT, START_FILES, RunFolder
from bigs_cli.checkpoints.sweep import PLAN
from bigs_cli.core.cache import cache_root
from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.files import link, locked
from bigs_cli.core.places import copy_of
from bigs_cli.core.processes import is_main_process, share, synchronize
from bigs_cli.core.remote import Remote, copy_path, remote

Say = Callable[[str], object]

SECONDS = 30.0
"""Time between two uploads. Chosen by this project."""
_RECIPE = "recipe.yaml"
_LAST = ("results.json", "seeds.json")
_FOLDERS = ("checkpoints", "best")


@contextmanager
def folder_of_run(url: str, command: str, resume: bool, say: Say) -> Iterator[Path]:
    """Yield the folder in which this process trains the run at `url`; all processes must call this function.

    It is the working copy in process 0. The others get a temporary folder with the files that were written before the
    first step, and an empty folder for each checkpoint. They wait until everything is uploaded.

    Raises:
        RequestError, BigsError: as `working_copy`, in process 0.
    """
    has_begun = False
    try:
        with _here(url, command, resume, say) as folder:
            has_begun = True
            yield folder
    except KeyboardInterrupt:
        # Ctrl-C stops all processes. The others must not end before process 0 has uploaded everything.
        if has_begun:
            synchronize()
        raise
    synchronize()


@contextmanager
def _here(url: str, command: str, resume: bool, say: Say) -> Iterator[Path]:
    if is_main_process():
        with working_copy(url, command, resume, say) as folder:
            files = [folder / name for name in sorted({PLAN, *START_FILES}) if (folder / name).is_file()]
            share([{file.name: file.read_text(encoding="utf-8") for file in files}, steps(folder / "checkpoints")])
            yield folder
    else:
        texts, known = share(None)
        with tempfile.TemporaryDirectory(prefix="bigs-") as temporary:
            folder = Path(temporary)
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8")
            for step in known:
                (folder / "checkpoints" / str(step)).mkdir(parents=True)
            with copy_of(url, folder):
                yield folder


@contextmanager
def working_copy(url: str, command: str, resume: bool, say: Say) -> Iterator[Path]:
    """Yield the folder in which the run at `url` is trained by `bigs COMMAND`, and upload what is written there.

    With `resume`, it has the files of the run. They are downloaded unless the folder has a later state, which an
    interrupted process could not upload. The folder is removed when everything in it is uploaded. `say` is called with
    messages.

    Raises:
        RequestError: there is no run to resume, `url` is in use or cannot be used, another process of this machine is
            training the run, or without `resume`, the folder has a run that was not uploaded.
        BigsError: `url` cannot be reached.
    """
    place, folder = remote(url), working_folder(url)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as claim:
        try:
            claim.enter_context(locked(_beside(folder, "lock")))
        except BlockingIOError:
            raise RequestError(f"Another process is training {url}. Wait for it, or name another place.") from None
        there = _prepare(place, folder, command, resume, say)
        with Mirror(folder, place, there, say), copy_of(url, folder):
            yield folder


def _prepare(place: Remote, folder: Path, command: str, resume: bool, say: Say) -> list[str]:
    """Check that a run can be trained, and make its working copy; see `working_copy`.

    Returns the names of the files at `place`.
    """
    url, again = place.url, resume_command(command, place.url)
    names = list(place.files())
    there, here = _has_started(names), _has_started(path.name for path in folder.rglob("*"))
    if not resume and (there or not {name.rpartition("/")[2] for name in names} <= START_FILES):
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
    if there and not (here and _is_later(folder, place, names)):
        say(f"Downloading {url}.")
        partial = _beside(folder, "download")
        for old in (partial, folder):
            shutil.rmtree(old, ignore_errors=True)
        try:
            for name in _usable(names):
                place.get(name, partial / name)
        except FileNotFoundError:
            raise BigsError(f"The files at {url} are being changed. Is another machine training this run?") from None
        partial.rename(folder)
    folder.mkdir(exist_ok=True)
    say(f"Run: {url} (working copy: {folder})")
    return names


def working_folder(url: str) -> Path:
    """Return the path of the working copy of the run at a URL. It exists until the run is uploaded."""
    copy = copy_path(remote(url))
    return cache_root() / "runs" / copy.relative_to(copy.parents[2])


def _beside(folder: Path, name: str) -> Path:
    """Return the path of a file or folder that belongs to a working copy; see `copy_path`."""
    return folder.parents[1] / name


def small_files(names: list[str]) -> list[str]:
    """Return, of the `names` of the files of a run, those outside of its checkpoints."""
    return [name for name in names if not set(name.split("/")) & set(_FOLDERS)]


def needed_by_model(names: list[str], step: int | None = None) -> list[str]:
    """Return, of the `names` of the files of a run or a model folder, those from which the model is opened.

    With `step`, it is that of this checkpoint of a run.
    """
    complete = [folder for folder in _complete(names) if folder.count("/") == 1]
    if _RECIPE not in names or not complete:
        return names
    best = [folder for folder in complete if folder.startswith("best/")]
    newest = max(best or complete, key=lambda folder: int(folder.rpartition("/")[2]))
    newest = newest if step is None else f"checkpoints/{step}"
    inside = [name for name in names if _checkpoint_of(name) == newest and name.split("/")[2] != "optimizer"]
    return [*(name for name in names if "/" not in name), *inside]


def _has_started(names: Iterable[str]) -> bool:
    """Return whether files with these names are those of a run, of several seeds or of a sweep."""
    return not {_RECIPE, PLAN}.isdisjoint(name.rpartition("/")[2] for name in names)


def _checkpoint_of(name: str) -> str | None:
    """Return the folder of the checkpoint that a file belongs to, as checkpoints/100 or seed-42/best/100, if any.

    Hidden files, such as those that wait to be pushed, belong to none.
    """
    parts = name.split("/")
    if any(part.startswith(".") for part in parts):
        return None
    for at, part in enumerate(parts[:-2]):
        if part in _FOLDERS and parts[at + 1].isdigit():
            return "/".join(parts[: at + 2])
    return None


def _complete(names: Iterable[str]) -> set[str]:
    """Return the folders of the checkpoints that have all of their files."""
    return {
        name.removesuffix(f"/{CHECKSUMS}") for name in names if name.endswith(f"/{CHECKSUMS}") and _checkpoint_of(name)
    }


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
        first = 1 if file == _RECIPE else 0 if file in START_FILES else 2
        return (5 if file in _LAST else first), "", False
    return (3 if "best" in folder.split("/") else 4), folder, file == CHECKSUMS


def _is_later(folder: Path, place: Remote, names: list[str]) -> bool:
    """Return whether `folder` has the run with the files `names` at `place` in a state that is at least as late.

    Checkpoints of the same step from two machines have the same values, but differ in the names of their files.
    """
    for name in names:
        if name.rpartition("/")[2] == ENVIRONMENT and _content(folder / name) != place.read(name):
            return False
    for checkpoint in _complete(names):
        parent, _, step = checkpoint.rpartition("/")
        checksums, here = f"{checkpoint}/{CHECKSUMS}", steps(folder / parent)
        if max(here, default=0) < int(step) or (
            int(step) in here and _content(folder / checksums) != place.read(checksums)
        ):
            return False
    return all((folder / name).is_file() for name in names if name.rpartition("/")[2] in (*_LAST, _RECIPE))


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


class Mirror:
    """Uploads the files of a folder in a thread while this context lasts, and once more when it ends.

    `there` are the names of the files at the place. An upload that fails is tried again with the next one. When all is
    uploaded, the folder is removed, unless checkpoints in it still have to be pushed to the hub: resuming the run does
    that. At the place, only files are deleted that this folder has had.
    """

    def __init__(self, folder: Path, place: Remote, there: list[str], say: Say) -> None:
        self._folder, self._place, self._say = folder, place, say
        # What `_prepare` has left in the folder is also at the place, except the checkpoints and files of a crash.
        self._sent = {
            name: _version(folder / name) if _checkpoint_of(name) else None
            for name in _usable(there)
            if (folder / name).is_file()
        }
        self._partial = {
            name: checkpoint
            for name in set(there).difference(_usable(there))
            if (checkpoint := _checkpoint_of(name)) is not None
        }
        """The files of checkpoints whose upload was interrupted → the folder of their checkpoint."""
        self._stop, self._failed = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="upload", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        try:
            self.upload()
        except (BigsError, OSError) as problem:
            sentence = (
                f"The run could not be uploaded. {problem} Its files are in {self._folder}; to upload them, resume the "
                "run from this machine."
            )
            if kind is None:
                raise BigsError(sentence) from problem
            self._say(sentence)
        else:
            if steps(RunFolder(self._folder).pushes):
                self._say(f"Checkpoints that could not be pushed are kept in {self._folder}.")
                return
            removed = _beside(self._folder, "removed")
            shutil.rmtree(removed, ignore_errors=True)
            self._folder.rename(removed)  # A part of a working copy must not look like one.
            shutil.rmtree(removed)

    def _run(self) -> None:
        while not self._stop.wait(SECONDS):
            try:
                self.upload()
                self._failed = False
            except (BigsError, OSError) as error:
                if not self._failed:
                    self._say(f"Training continues, but the run cannot be uploaded at the moment: {error}")
                self._failed = True

    def upload(self) -> None:
        """Upload what is new, and delete there what was deleted here.

        Raises:
            RequestError, BigsError: as `Remote.put`, and if the bucket is gone.
        """
        links = _beside(self._folder, "upload")
        shutil.rmtree(links, ignore_errors=True)
        names = _snapshot(self._folder, links)
        try:
            for name in sorted(names, key=_order):
                self._upload(name, links)
        finally:
            shutil.rmtree(links, ignore_errors=True)
        complete = _complete(self._sent)
        for name in sorted(self._sent.keys() - set(names), key=lambda name: not name.endswith(CHECKSUMS)):
            checkpoint = _checkpoint_of(name)
            if checkpoint is None or _has_later(checkpoint, complete):
                self._place.remove(name)
                del self._sent[name]
        for name, checkpoint in sorted(self._partial.items()):
            if name not in self._sent and (checkpoint in complete or _has_later(checkpoint, complete)):
                self._place.remove(name)
                del self._partial[name]

    def _upload(self, name: str, links: Path) -> None:
        """Upload one file, unless this version of it is there. The files of checkpoints are read from `links`."""
        checkpoint = _checkpoint_of(name)
        path = (self._folder if checkpoint is None else links) / name
        version = _version(path)
        if version is None or self._sent.get(name) == version:
            return
        checksums = f"{checkpoint}/{CHECKSUMS}"
        # A checkpoint without checksums does not exist, so it cannot have some files of an older version.
        if checkpoint is not None and checksums in self._sent and name != checksums:
            self._place.remove(checksums)
            del self._sent[checksums]
        try:
            self._place.put(path, name)
        except FileNotFoundError:
            if not path.exists():
                return
            raise BigsError(f"{self._place.url} cannot be written: its bucket is gone.") from None
        self._sent[name] = version


def _snapshot(folder: Path, links: Path) -> list[str]:
    """Return the names of the files to upload, and link those of checkpoints into `links`: they may soon be deleted.

    Training states are listed before the best parameters and the metrics log, so that these are not older, and after
    the results, so that those are not newer.
    """
    found = [name for name in _names(folder) if name.rpartition("/")[2] in _LAST]
    for kind in _FOLDERS:
        for name in _names(folder):
            checkpoint = _checkpoint_of(name)
            if checkpoint is not None and checkpoint.split("/")[-2] == kind:
                (links / name).parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    link(folder / name, links / name)
                    found.append(name)
    plain = [name for name in _names(folder) if _checkpoint_of(name) is None and name.rpartition("/")[2] not in _LAST]
    return _usable([*found, *plain])


def _names(folder: Path) -> list[str]:
    """Return the names of all files; folders that are deleted meanwhile are left out."""
    return [
        (Path(parent) / file).relative_to(folder).as_posix() for parent, _, files in os.walk(folder) for file in files
    ]


def _has_later(checkpoint: str, complete: Iterable[str]) -> bool:
    """Return whether one of the `complete` checkpoints is in the same folder as `checkpoint`, and later."""
    parent, _, step = checkpoint.rpartition("/")
    return any(other.rpartition("/")[0] == parent and int(other.rpartition("/")[2]) > int(step) for other in complete)


def _version(path: Path) -> tuple[int, int] | None:
    """Return size and modification time of a file; None if it does not exist."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_size, state.st_mtime_ns
