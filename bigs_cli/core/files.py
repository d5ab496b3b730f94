"""Writing files atomically: a reader sees the complete old or new content. Also JSON, locks and checksums."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from bigs_cli.core.errors import RequestError
from bigs_cli.core.interrupts import defer_signals

_TMP_MARK = ".bigs-"  # Part of the names of our temporary files.
_WRITE_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; rename it to `path` on success, remove it on any error.

    Temporary files of killed processes beside `path` are removed. Devices, pipes and the file that stdout is
    redirected to (/dev/stdout) are written directly. If `path` is a link, its target is replaced.

    Raises:
        OSError: the file cannot be written; `filename` is `path`.
    """
    # JSON and file names can contain lone surrogates, which cannot be encoded. They are written as `\udXXX` escapes,
    # which a JSON parser decodes to the same surrogates.
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
    stream = _standard_stream(path)
    if stream is not None or (path.exists() and not path.is_file()):
        with name_in_errors(path), open(path if stream is None else os.dup(stream), mode, **text) as file:  # noqa: PTH123
            yield file
        return
    path = path.resolve() if path.is_symlink() else path
    with name_in_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        temporary = None
        try:
            with defer_signals():
                handle, temporary = _create_temporary(path)
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
def name_in_errors(path: Path) -> Iterator[None]:
    """Set `filename` to `path` in OSErrors that name no file or a temporary file of `path`."""
    try:
        yield
    except OSError as error:
        named = error.filename
        unnamed = named is None and error.errno in _WRITE_ERRNOS
        if unnamed or (isinstance(named, str) and Path(named).name.startswith(f".{path.name}.")):
            error.filename = str(path)
        raise


def check_writable(folder: Path, what: str) -> None:
    """Check that `what` ("--output …") can be written into `folder`; nothing is changed.

    Raises:
        RequestError: `folder`, or its nearest existing parent, is not a folder or not writable.
    """
    absolute = folder.absolute()
    existing = next(path for path in (absolute, *absolute.parents) if path.exists())
    if not existing.is_dir():
        raise RequestError(f"{what} cannot be written: {existing} is not a folder. Name another path.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise RequestError(
            f"{what} cannot be written: {existing} is read-only, or you have no permission to write there. "
            "Name another path."
        )


def check_output_file(path: Path, option: str) -> None:
    """Check, before any long-running work starts, that the file named by `option` can be written.

    Raises:
        RequestError: it is a folder, or its folder is not writable.
    """
    if path.is_dir():
        raise RequestError(f"{option} {path} is a folder. Name a file.")
    if not path.exists() or path.is_file():
        check_writable(path.absolute().parent, f"{option} {path}")


def link(source: Path, target: Path) -> None:
    """Make a second name for a file, or a copy on a file system without such links.

    Raises:
        FileNotFoundError: `source` does not exist.
    """
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file at `path`. The system releases it when the process ends.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the file cannot be written.
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
    """Return `value` as JSON that conforms to RFC 8259: NaN and infinities become null.

    All JSON output is serialized by this function. `default` is that of `json.dumps`.
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
        return {key: _without_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parse_json(text: str | bytes, unique_keys: bool = False) -> Any:
    """Parse JSON. The last value of a duplicate key counts.

    Raises:
        ValueError: `text` is not JSON, not UTF-8 or nested too deep, or, with `unique_keys`, an object has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique if unique_keys else None)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        duplicate = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"an object has the key '{duplicate}' twice")
    return values


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file at `path` in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _standard_stream(path: Path) -> int | None:
    """Return the descriptor of stdout or stderr if `path` is the file it is redirected to, else None."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(number)):
                return number
    return None


def _create_temporary(path: Path) -> tuple[int, Path]:
    """Create and lock the temporary file of `path`. `_remove_stale` ignores it as long as it is locked."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}{_TMP_MARK}")
        with contextlib.suppress(OSError):  # On a file system without locks, `_remove_stale` removes nothing.
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(name):  # noqa: PTH110 - `_remove_stale` may have removed it before it was locked
            return handle, Path(name)
        os.close(handle)


def _remove_stale(path: Path) -> None:
    """Remove the temporary files of `path` that killed processes have left."""
    for stale in path.parent.glob(f".{glob.escape(path.name)}{_TMP_MARK}{'[a-z0-9_]' * 8}"):  # as named by `tempfile`
        with contextlib.suppress(OSError), stale.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stale.unlink()


def apply_umask(path: Path) -> None:
    """Set the permissions of `path` to those of a new file under the current umask."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
