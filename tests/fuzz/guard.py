"""Checks that reading a file ends, uses limited memory, and starts no process, connection or write elsewhere."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bigs_cli.core.cache import cache_root
from tests.tiny import HANG

SECONDS = 10
"""The limit on the CPU time for reading one file, valid or not; other processes do not count."""
MEGABYTES = 400
"""The limit on the growth of this process while it reads one small file."""

_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "ctypes.dlopen")
_CALLS = ("socket.connect", "socket.getaddrinfo", "urllib.Request", "pickle.find_class")
_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_allowed: tuple[str, ...] | None = None
_seen: list[str] = []


class Violation(BaseException):
    """A forbidden effect of reading a file. Not an `Exception`, so that no reader handles it as an invalid file."""


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _allowed is None:
        return
    if event in _STARTS or event in _CALLS:
        _seen.append(f"{event}{arguments[:2]}")
    elif (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES) or event in _CHANGES:
        _check(event, arguments[0])


def _check(event: str, path: Any) -> None:
    if isinstance(path, str | bytes | os.PathLike):
        place = os.path.realpath(os.fsdecode(path))
        nameless = event == "open" and os.path.isdir(place)  # noqa: PTH112 - an unnamed temporary file
        if not nameless and not place.startswith(_allowed or ()):
            _seen.append(f"{event} {place}")


sys.addaudithook(_hook)


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Raise Violation if the block starts a process or connection, writes elsewhere, or exceeds a limit."""
    global _allowed
    _allowed = None  # also if the last alarm came at the end of its block
    before = _peak(reset=True)
    _seen.clear()
    _allowed = (os.path.realpath(folder), os.path.realpath(cache_root()), os.devnull)
    previous = [signal.signal(number, _late) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, HANG)
    try:
        yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for number, handler in zip((signal.SIGPROF, signal.SIGALRM), previous, strict=True):
            signal.signal(number, handler)
        _allowed = None
    if _seen:
        raise Violation("; ".join(_seen))
    grown = (_peak() - before) >> 20
    if grown > MEGABYTES:
        raise Violation(f"took {grown} MB")


def _peak(reset: bool = False) -> int:
    """Return the peak memory of this process in bytes; `reset` starts a new measurement if the system supports this."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def _late(number: int, frame: Any) -> None:
    raise Violation("it hangs" if number == signal.SIGALRM else f"not done after {SECONDS} s")
