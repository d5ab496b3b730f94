"""Watching what reading a file does: it ends, in bounded memory, and neither runs nor writes nor calls anything."""

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
"""The most of the processor's time that one file may take to be read, refused or not: what else runs does not count."""
MEGABYTES = 400
"""The most that this process may grow by while it reads one small file."""

_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "ctypes.dlopen")
_CALLS = ("socket.connect", "socket.getaddrinfo", "urllib.Request", "pickle.find_class")
_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_allowed: tuple[str, ...] | None = None
_seen: list[str] = []


class Offence(BaseException):
    """What no file may bring about. No `Exception`, so that no reader takes it for a fault of the file."""


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
        nameless = event == "open" and os.path.isdir(place)  # noqa: PTH112 - a temporary file that is in no folder
        if not nameless and not place.startswith(_allowed or ()):
            _seen.append(f"{event} {place}")


sys.addaudithook(_hook)


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Raise Offence for what happens inside: a process, a connection, a write elsewhere, too much time or memory."""
    global _allowed
    _allowed = None  # also if the last alarm came as its watch was being ended
    before = _peak(anew=True)
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
        raise Offence("; ".join(_seen))
    grown = (_peak() - before) >> 20
    if grown > MEGABYTES:
        raise Offence(f"took {grown} MB")


def _peak(anew: bool = False) -> int:
    """Return the most bytes that this process has held; `anew`: from now on, as far as the system can begin again."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    if anew:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def _late(number: int, frame: Any) -> None:
    raise Offence("it hangs" if number == signal.SIGALRM else f"not done after {SECONDS} s")
