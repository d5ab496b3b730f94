"""Files at URLs such as s3://bucket/folder, through fsspec: copies in the cache, and uploads.

Everything that trains or loads works on local files. What is read from a URL is downloaded to the cache first, and what
is written to one is written here and then uploaded (`checkpoints/remote_run.py` does so while a run is trained).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bigs_cli.core.cache import cache_root
from bigs_cli.core.errors import BigsError, RequestError, first_line
from bigs_cli.core.files import parse_json
from bigs_cli.core.paths import url_of
from bigs_cli.core.places import register

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3"}
"""Protocol → the extra of bigs that installs its package."""
_FLAT = {"gs", "gcs", "s3", "s3a", "az", "abfs", "memory"}
"""Protocols without folders: making one would create a bucket instead."""
_WHOLE = 16 << 20
"""Files of at most this many bytes are read before they are uploaded, because they may grow meanwhile."""
_COPIES = "remote"
_INDEX = "versions.json"
_PROBE = ".bigs-write-test"

Progress = Callable[[int], AbstractContextManager[Callable[[int], object]]]


@contextmanager
def remote_errors(url: str) -> Iterator[None]:
    """Convert errors of file systems into sentences; FileNotFoundError passes.

    Raises:
        RequestError: no installed package handles such URLs, or the URL is malformed.
        BigsError: it cannot be reached.
    """
    protocol = url.split("://", 1)[0]
    try:
        yield
    except (BigsError, FileNotFoundError):
        raise
    except PermissionError as error:
        raise RequestError(
            f"{url} cannot be used: permission denied ({first_line(error)}). Check its rights."
        ) from None
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        install = f"pip install 'bigs[{extra}]'" if extra else str(error)
        raise RequestError(f"{url} requires a package that is not installed ({install}).") from None
    except ValueError as error:
        raise RequestError(f"{url} is not a URL that can be used ({error}).") from None
    except Exception as error:  # each file system has its own exceptions
        raise BigsError(f"{url} cannot be reached ({first_line(error)}). Check the URL and the network.") from error


@dataclass(frozen=True)
class Remote:
    """The file or folder at a URL; `remote` opens one."""

    url: str
    system: AbstractFileSystem
    root: str

    def files(self) -> dict[str, dict[str, Any]]:
        """Return the relative path of every file → its description; "" is the path of a single file.

        Raises:
            RequestError: a name would lie outside the folder of a copy; or as `remote_errors`.
            BigsError: as `remote_errors`.
        """
        with remote_errors(self.url):
            self.system.invalidate_cache()
            try:
                info = cast(dict[str, Any], self.system.info(self.root))
            except FileNotFoundError:
                return {}
            if info["type"] == "file":
                return {"": info}
            found = cast(dict[str, dict[str, Any]], self.system.find(self.root, detail=True))
        inside = {path.removeprefix(self.root).lstrip("/"): one for path, one in sorted(found.items())}
        files = {name: one for name, one in inside.items() if name and not name.endswith("/")}
        if outside := [name for name in files if ".." in name.split("/")]:
            raise RequestError(
                f"{self.url} has a file named {outside[0]}, which would lie outside its copy. Remove it."
            )
        return files

    def get(self, name: str, target: Path) -> None:
        """Download one file, atomically.

        Raises:
            FileNotFoundError: it does not exist.
            RequestError, BigsError: as `remote_errors`.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.bigs-partial")
        try:
            with remote_errors(self.url):
                self.system.get_file(self._path(name), str(partial))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def read(self, name: str) -> bytes:
        """Return the content of one file.

        Raises:
            FileNotFoundError: it does not exist.
            RequestError, BigsError: as `remote_errors`.
        """
        with remote_errors(self.url):
            return cast(bytes, self.system.cat_file(self._path(name)))

    def put(self, source: Path, name: str) -> None:
        """Upload one file.

        Raises:
            FileNotFoundError: it does not exist here, or the bucket does not exist.
            RequestError, BigsError: as `remote_errors`.
        """
        path = self._path(name)
        with remote_errors(self.url):
            self._make_folder(path)
            if source.stat().st_size <= _WHOLE:
                self.system.pipe_file(path, source.read_bytes())
            else:
                self.system.put_file(str(source), path)

    def remove(self, name: str) -> None:
        """Delete one file, if it exists.

        Raises:
            RequestError, BigsError: as `remote_errors`.
        """
        with remote_errors(self.url), contextlib.suppress(FileNotFoundError):
            self.system.rm_file(self._path(name))

    def check_writable(self) -> None:
        """Check that files can be written: an empty one is, and is deleted again.

        Raises:
            RequestError: the bucket does not exist, or as `remote_errors`.
            BigsError: as `remote_errors`, for example because of missing permissions.
        """
        path = f"{self.root}/{_PROBE}"
        try:
            with remote_errors(self.url):
                self._make_folder(path)
                self.system.pipe_file(path, b"")
                self.system.rm_file(path)
        except FileNotFoundError:
            raise RequestError(
                f"{self.url} cannot be written: its bucket does not exist. Check its spelling."
            ) from None

    def _make_folder(self, path: str) -> None:
        protocols = self.system.protocol
        if not _FLAT & set([protocols] if isinstance(protocols, str) else protocols):
            self.system.makedirs(path.rpartition("/")[0], exist_ok=True)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root


def remote(url: str) -> Remote:
    """Return the file or folder at a URL, which may not exist.

    Raises:
        RequestError: no installed package handles such URLs, or it is malformed.
    """
    import fsspec

    with remote_errors(url):
        system, root = cast("tuple[AbstractFileSystem, str]", fsspec.url_to_fs(url))
    return Remote(url, system, root.rstrip("/"))


def copy_path(place: Remote) -> Path:
    """Return the path of the copy of a file or folder in the cache. It need not exist.

    The copy is in a folder of its own, because it may have any name: what belongs to it is beside that folder.
    """
    protocol = place.system.protocol if isinstance(place.system.protocol, str) else place.system.protocol[0]
    digest = hashlib.sha256(f"{protocol}://{place.root}".encode()).hexdigest()[:16]
    return cache_root() / _COPIES / digest / "copy" / (place.root.rpartition("/")[2] or "root")


def fetch(
    url: str,
    choose: Callable[[list[str]], list[str]] = lambda names: names,
    progress: Progress = lambda size: contextlib.nullcontext(lambda done: None),
) -> Path:
    """Return a copy in the cache of the file or folder at a URL. Only files that have changed are downloaded.

    `choose` selects some of the names of the files in a folder; others stay if they were downloaded before and have not
    changed. `progress` is called with the number of bytes to download; in its context, the function that it yields is
    called with the number downloaded since.

    Raises:
        RequestError: nothing is there, no installed package handles such URLs, or it is malformed.
        BigsError: it cannot be reached.
    """
    for _ in range(2):  # A run that is being trained replaces files.
        with contextlib.suppress(FileNotFoundError):
            return _fetch(url, choose, progress)
    raise BigsError(f"The files at {url} are being changed. Try again later.")


def _fetch(url: str, choose: Callable[[list[str]], list[str]], progress: Progress) -> Path:
    place = remote(url)
    target = copy_path(place)
    register(target, url)
    files = place.files()
    if not files:
        raise RequestError(f"There is nothing at {url}. Check its spelling.")
    versions = {name: hashlib.sha256(repr(sorted(info.items())).encode()).hexdigest() for name, info in files.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parents[1] / _INDEX).open("a+") as index:
        fcntl.flock(index, fcntl.LOCK_EX)  # Another process may be making the same copy.
        index.seek(0)
        known = {}
        with contextlib.suppress(ValueError):
            known = dict(parse_json(index.read()))
        fresh = {name for name in versions if versions[name] == known.get(name) and (target / name).is_file()}
        stale = [name for name in choose(list(files)) if name not in fresh]
        if "" in files and target.is_dir():
            shutil.rmtree(target)
        for path in _files(target):
            if path.relative_to(target).as_posix() not in fresh:
                path.unlink()
        if stale:
            for name in stale:
                known.pop(name, None)
            try:
                with progress(sum(files[name]["size"] or 0 for name in stale)) as advance:
                    for name in stale:
                        place.get(name, target / name if name else target)
                        known[name] = versions[name]
                        advance(files[name]["size"] or 0)
            finally:  # An interrupted download is continued.
                index.truncate(0)
                json.dump({name: known[name] for name in versions if name in known}, index)
    return target


def local_copy(place: str | Path, progress: Progress | None = None) -> Path:
    """Return a local path unchanged, and the copy in the cache of what is at a URL.

    Raises:
        RequestError, BigsError: as `fetch`.
    """
    url = url_of(place)
    if url is None:
        return Path(place)
    return fetch(url) if progress is None else fetch(url, progress=progress)


def upload(source: Path, url: str) -> None:
    """Upload a file, or all files of a folder.

    Raises:
        RequestError: no installed package handles such URLs, or it is malformed.
        BigsError: it cannot be reached.
        FileNotFoundError: the bucket does not exist; see `Remote.check_writable`.
    """
    place = remote(url)
    files = {"": source} if source.is_file() else {path.relative_to(source).as_posix(): path for path in _files(source)}
    for name, path in files.items():
        place.put(path, name)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
