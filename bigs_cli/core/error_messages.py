"""Messages for system errors: full disks, missing permissions, missing files, exhausted memory.

Libraries wrap system errors in their own exceptions, sometimes only as text, so the whole chain of an exception is
searched, first by errno, then by text.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from bigs_cli.core.errors import BigsError, RequestError

AGAIN = "and repeat the command"

# The problem with {place}, and the remedy as a clause.
_DISK: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("The disk of {place} is full.", "Free some space"),
    errno.EDQUOT: ("Your disk quota for {place} is exhausted.", "Free some space"),
    errno.EFBIG: (
        "{place} exceeds the maximum file size.",
        "Raise the limit (ulimit -f), or use another disk",
    ),
    errno.EROFS: ("{place} cannot be written: read-only file system.", "Remount it, or name another path"),
    errno.EACCES: ("{place} cannot be used: permission denied.", "Change its permissions, or name another path"),
    errno.EPERM: (
        "{place} cannot be changed: operation not permitted.",
        "Change its permissions, or name another path",
    ),
    errno.ENOENT: ("{place} does not exist, or was removed.", "Restore it, or name another path"),
    errno.ENOTDIR: ("{place} cannot be used: a part of its path is not a folder.", "Name another path"),
    errno.ENAMETOOLONG: ("{place} cannot be used: its name is too long.", "Name another path"),
    errno.EIO: ("The disk of {place} failed (input/output error).", "Check the system log, use another disk"),
    errno.ESTALE: ("{place} was lost by its file server (stale file handle).", "Mount it again"),
    errno.ENODEV: ("The device of {place} is not available.", "Mount it again"),
    errno.EMFILE: ("{place} cannot be opened: too many open files.", "Raise the limit (ulimit -n 4096)"),
    errno.ENFILE: ("{place} cannot be opened: too many open files on this machine.", "Close other programs"),
}
_REFUSALS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
)
# How Python, TensorStore (used by Orbax) and Rust libraries print an errno and a path.
_NUMBER = re.compile(r"\[Errno (\d+)\]|os_error_code='(\d+)'|\(os error (\d+)\)")
_PLACE = re.compile(r'(?:local file|[Ww]riting:|[Rr]eading:) "([^"]+)"')
# How XLA, NumPy and Python report exhausted memory.
_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|[Oo]ut of memory|Unable to allocate")
_AMOUNT = re.compile(r"(\d+) bytes|(\d[\d.]* ?[KMGTP]i?B)\b")


def translate_error(error: BaseException, place: Path | None = None, then: str = AGAIN) -> BigsError | None:
    """Return an error that explains the system error behind `error` and its remedy; None if there is none.

    A path that cannot be used is a RequestError; all other errors are BigsErrors. `place` is the path being written or
    read, for errors that name no path; `then` ends the message with the step after the remedy.
    """
    if (message := describe_disk_error(error, place, then)) is not None:
        code = next(number for number, _ in map(_disk_error, _chain(error)) if number in _DISK)
        return RequestError(message) if code in _REFUSALS else BigsError(message)
    if (message := describe_memory_error(error)) is not None:
        return BigsError(
            f"{message} Use a machine with more memory, or, if the command has these options, a smaller batch "
            f"(--batch-size) or a shorter length (--length), {then}."
        )
    return None


def describe_disk_error(error: BaseException, place: Path | None, then: str) -> str | None:
    """Return the message of `translate_error` if the cause is an error of a disk, a file or its permissions."""
    for cause in _chain(error):
        number, path = _disk_error(cause)
        if number in _DISK:
            problem, remedy = _DISK[number]
            if place is not None and not isinstance(cause, OSError):
                path = None  # An internal file of a library, inside `place`.
            return f"{problem.format(place=path or place or 'the output')} {remedy}, {then}."
    return None


def describe_memory_error(error: BaseException) -> str | None:
    """Return a sentence with the requested size if the cause is exhausted memory. Check `describe_disk_error` first."""
    for cause in _chain(error):
        if isinstance(cause, MemoryError) or _MEMORY.search(str(cause)):
            return f"There is not enough memory{_amount(str(cause))}."
    return None


@contextlib.contextmanager
def convert_errors(convert: Callable[[Exception], BigsError | None]) -> Iterator[None]:
    """Raise what `convert` returns for an exception in the block; if that is None, the original one is re-raised.

    Raises:
        BigsError: the converted exception.
    """
    try:
        yield
    except BigsError:
        raise
    except Exception as error:
        converted = convert(error)
        if converted is None:
            raise
        raise converted from error


def write_error(what: str, error: OSError, remedy: str) -> BigsError:
    """Return the error for `what` ("--output …") that cannot be written.

    It is a RequestError if the path is the problem, and a BigsError if the disk is.
    """
    kind = RequestError if error.errno in (*_REFUSALS, errno.ENOENT) else BigsError
    return kind(f"{what} cannot be written: {error.strerror or error}. {remedy}")


def nonfinite_error(model: str) -> BigsError:
    """Return the error for a model whose outputs are not finite; `model` begins the sentence."""
    return BigsError(
        f"{model} produced NaN or Inf; its weights are corrupt or training diverged. Use an earlier checkpoint, or "
        "train or download it again."
    )


def read_error(path: Path, error: OSError) -> RequestError:
    """Return the error for a file that cannot be opened."""
    reason = str(error.strerror or error).rstrip(".")
    return RequestError(f"{path} cannot be read: {reason}. Check that it exists, and check its permissions.")


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception, its cause, the cause of that, and so on."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return chain


def _disk_error(error: BaseException) -> tuple[int | None, str | None]:
    """Return the errno and the path of an exception, each None if it has none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno, str(error.filename) if isinstance(error.filename, str | Path) else None
    text = str(error)
    number, path = _NUMBER.search(text), _PLACE.search(text)
    return int(next(filter(None, number.groups()))) if number else None, path[1] if path else None


def _amount(text: str) -> str:
    """Return " for SIZE more" with the requested size in the text of an error, or ""."""
    match = _AMOUNT.search(text)
    if match is None:
        return ""
    size = f"{int(match[1]) / 2**30:,.1f} GiB" if match[1] else match[2]
    return f" for {size} more"
