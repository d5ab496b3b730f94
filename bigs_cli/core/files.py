"""Writing files so that a reader sees the old content or the new, never a half."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from bigs_cli.core.errors import RequestError
from bigs_cli.core.interrupts import defer_signals

_DRAFT = ".bigs-"  # in the names of temporary files, so that nobody else's are taken for ours
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; rename it to `path` on success, remove it on any error.

    What killed processes left of theirs beside `path` is removed. A device, a pipe, or the file that stdout goes to
    (/dev/stdout) is written to as it is; of a link, it is the file behind it that is replaced.

    Raises:
        OSError: the disk or its rights failed; `filename` is `path`.
    """
    # Half of a surrogate pair, which JSON and names of files can hold, has no UTF-8; JSON reads its escape back.
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
    stream = _standard_stream(path)
    if stream is not None or (path.exists() and not path.is_file()):
        with naming(path), open(path if stream is None else os.dup(stream), mode, **text) as file:  # noqa: PTH123
            yield file
        return
    path = path.resolve() if path.is_symlink() else path
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        temporary = None
        try:
            with defer_signals():
                handle, temporary = _draft(path)
            with os.fdopen(handle, mode, **text) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                apply_umask(temporary)
                temporary.replace(path)
        except BaseException:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have errors of the disk name `path` where they name no file, or a temporary one beside it."""
    try:
        yield
    except OSError as error:
        named = error.filename
        unnamed = named is None and error.errno in _OF_WRITING
        if unnamed or (isinstance(named, str) and Path(named).name.startswith(f".{path.name}.")):
            error.filename = str(path)
        raise


def check_writable(folder: Path, what: str) -> None:
    """Refuse to write `what` ("--output …") into `folder`, if that cannot be done; nothing is changed.

    Raises:
        RequestError: `folder`, or the nearest one above it that there is, does not let this user write.
    """
    whole = folder.absolute()
    place = next(path for path in (whole, *whole.parents) if path.exists())
    if not place.is_dir():
        raise RequestError(f"{what} cannot be written: {place} is no folder. Name another place.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise RequestError(
            f"{what} cannot be written: {place} is read-only, or this user has no right to write there. "
            "Name another place."
        )


def check_output_file(path: Path, option: str) -> None:
    """Refuse a file that is to be written at the end of long work, if it cannot be; `option` is the one that names it.

    Raises:
        RequestError: it is a folder, or `check_writable` refuses it.
    """
    if path.is_dir():
        raise RequestError(f"{option} {path} is a folder. Name a file.")
    if not path.exists() or path.is_file():
        check_writable(path.absolute().parent, f"{option} {path}")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path` for one process; the lock ends with the process, however that ends.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be written.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON with sorted keys, atomically."""
    with atomic_write(path, "w") as file:
        file.write(to_json(value, indent=2, sort_keys=True) + "\n")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write `values` to `path` as JSON lines, atomically."""
    with atomic_write(path, "w") as file:
        for value in values:
            file.write(to_json(value) + "\n")


def to_json(
    value: Any, *, indent: int | None = None, sort_keys: bool = False, default: Callable[[Any], Any] | None = None
) -> str:
    """Return `value` as JSON by RFC 8259, which has no NaN and no infinities: they become null.

    Every JSON text that a user or another program reads is made here. `default` is `json.dumps`'s.
    """

    def dump(value: Any) -> str:
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, indent=indent, sort_keys=sort_keys, default=default
        )

    try:
        return dump(value)
    except ValueError:
        return dump(_without_nonfinite(value))


def _without_nonfinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nonfinite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nonfinite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parse_json(text: str | bytes, unique_keys: bool = False) -> Any:
    """Return the value that JSON `text` stands for; of a key that an object has twice, the last value.

    Raises:
        ValueError: it is no JSON, is not UTF-8, or is nested deeper than Python reads, or, with `unique_keys`, an
            object has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique if unique_keys else None)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"an object has the key '{twice}' twice")
    return made


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of the file at `path`, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _standard_stream(path: Path) -> int | None:
    """Return the descriptor, stdout's or stderr's, of the file that `path` is, if it is one of theirs."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(number)):
                return number
    return None


def _draft(path: Path) -> tuple[int, Path]:
    """Make and lock the temporary file of `path`: `_sweep` lets it be for as long as this process has it open."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}{_DRAFT}")
        with contextlib.suppress(OSError):  # a file system without locks, where `_sweep` removes nothing
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(name):  # noqa: PTH110 - not swept away before it was locked
            return handle, Path(name)
        os.close(handle)


def _sweep(path: Path) -> None:
    """Remove the temporary files of `path` that no living process has: those of processes that were killed."""
    for left in path.parent.glob(f".{glob.escape(path.name)}{_DRAFT}{'[a-z0-9_]' * 8}"):  # as `tempfile` names them
        with contextlib.suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def apply_umask(path: Path) -> None:
    """Give the file at `path` the permissions that a file opened for writing gets: those of the umask."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
