"""What the machine does to a run, in sentences: full disks, missing rights, folders that vanish, memory that is short.

Libraries wrap the system's errors in their own, and some keep no more of them than the text: so the whole chain of an
error is looked through, and where there is no number, its words.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from bigs_cli.core.errors import BigsError, RequestError

AGAIN = "and give the command again"

# What is wrong with {place}, and a clause that says what to do about it.
_DISK: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("The disk of {place} is full.", "Make room"),
    errno.EDQUOT: ("Your quota on the disk of {place} is used up.", "Make room"),
    errno.EFBIG: (
        "{place} would be larger than a file may be here.",
        "Raise the limit (ulimit -f), or use another disk",
    ),
    errno.EROFS: ("{place} cannot be written: its disk is read-only.", "Have it remounted, or name another place"),
    errno.EACCES: ("{place} cannot be used: permission denied.", "Have its rights changed, or name another place"),
    errno.EPERM: ("{place} cannot be changed: operation not permitted.", "Have that allowed, or name another place"),
    errno.ENOENT: ("{place} is not there, or not any more.", "Put it back, or name another place"),
    errno.ENOTDIR: ("{place} cannot be used: a part of its path is no folder.", "Name another place"),
    errno.ENAMETOOLONG: ("{place} cannot be used: its name is too long.", "Name another place"),
    errno.EIO: ("The device of {place} fails (input/output error).", "Look into the system's log, use a sound disk"),
    errno.ESTALE: ("{place} is gone from its file server (stale file handle).", "Have it mounted again"),
    errno.ENODEV: ("The device of {place} is gone.", "Have it mounted again"),
    errno.EMFILE: ("Too many files are open, and {place} is one more.", "Raise the limit (ulimit -n 4096)"),
    errno.ENFILE: ("The machine has too many files open, and {place} is one more.", "End other programs"),
}
_REFUSALS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
)
# As Python, TensorStore (which Orbax writes with) and Rust's libraries print an errno, and what they were at.
_NUMBER = re.compile(r"\[Errno (\d+)\]|os_error_code='(\d+)'|\(os error (\d+)\)")
_PLACE = re.compile(r'(?:local file|[Ww]riting:|[Rr]eading:) "([^"]+)"')
# As XLA, NumPy and Python say that memory is short.
_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|[Oo]ut of memory|Unable to allocate")
_AMOUNT = re.compile(r"(\d+) bytes|(\d[\d.]* ?[KMGTP]i?B)\b")


def translate_error(error: BaseException, place: Path | None = None, then: str = AGAIN) -> BigsError | None:
    """Return the fault of the machine behind `error`, and what to do, in two sentences; None: none that is known.

    A place that may not be used is a wrong request, everything else a failed run. `place` is what was being written or
    read, for errors that do not name it; `then` is what follows once the fault is gone.
    """
    if (sentence := of_disk(error, place, then)) is not None:
        told_of = next(number for number, _ in map(_disk_error, _chain(error)) if number in _DISK)
        return RequestError(sentence) if told_of in _REFUSALS else BigsError(sentence)
    if (sentence := of_memory(error)) is not None:
        return BigsError(
            f"{sentence} Take a machine that has more, or, where the verb has these, fewer rows at once (--batch-size) "
            f"or shorter ones (--length), {then}."
        )
    return None


def of_disk(error: BaseException, place: Path | None, then: str) -> str | None:
    """Return `translate_error`'s sentences if the fault is one of disks, files and their rights."""
    for one in _chain(error):
        number, named = _disk_error(one)
        if number in _DISK:
            what, remedy = _DISK[number]
            if place is not None and not isinstance(one, OSError):
                named = None  # a library's own file, deep inside `place`
            return f"{what.format(place=named or place or 'the output')} {remedy}, {then}."
    return None


def of_memory(error: BaseException) -> str | None:
    """Return a sentence if memory is short, with how much was asked for. `of_disk` has to be asked first."""
    for one in _chain(error):
        if isinstance(one, MemoryError) or _MEMORY.search(str(one)):
            return f"There is not enough memory{_amount(str(one))}."
    return None


@contextlib.contextmanager
def told(explained: Callable[[Exception], BigsError | None]) -> Iterator[None]:
    """Turn a fault of the machine in what is done inside into what it is `explained` as; None: it is no such fault.

    Raises:
        BigsError: there was one. Other errors pass.
    """
    try:
        yield
    except BigsError:
        raise
    except Exception as error:
        fault = explained(error)
        if fault is None:
            raise
        raise fault from error


def refused(what: str, error: OSError, otherwise: str) -> BigsError:
    """Return the error of `what` ("--output …") that cannot be written, and what to do `otherwise`.

    It is the request that is wrong, unless the disk itself fails or is full.
    """
    kind = RequestError if error.errno in (*_REFUSALS, errno.ENOENT) else BigsError
    return kind(f"{what} cannot be written: {error.strerror or error}. {otherwise}")


def nonfinite_error(model: str) -> BigsError:
    """Return the error of a model, as a sentence begins with it, whose outputs are no numbers."""
    return BigsError(
        f"{model} gives NaN or infinities, so its weights are spoilt. Take an earlier checkpoint of it, or train or "
        "fetch it again."
    )


def unreadable(path: Path, error: OSError) -> RequestError:
    """Return the error of a file at `path` that was named, or goes with one, and cannot be opened."""
    reason = str(error.strerror or error).rstrip(".")
    return RequestError(f"{path} cannot be read: {reason}. Check that it is there, and that you may read it.")


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and what is behind it, the nearest first."""
    known: list[BaseException] = []
    behind: BaseException | None = error
    while behind is not None and behind not in known:
        known.append(behind)
        behind = behind.__cause__ or behind.__context__
    return known


def _disk_error(error: BaseException) -> tuple[int | None, str | None]:
    """Return the errno of one error and the path that it names, as far as it has them."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno, str(error.filename) if isinstance(error.filename, str | Path) else None
    text = str(error)
    number, path = _NUMBER.search(text), _PLACE.search(text)
    return int(next(filter(None, number.groups()))) if number else None, path[1] if path else None


def _amount(text: str) -> str:
    """Return how much was asked for, as far as the text of an error says it."""
    found = _AMOUNT.search(text)
    if found is None:
        return ""
    size = f"{int(found[1]) / 2**30:,.1f} GiB" if found[1] else found[2]
    return f" for {size} more"
