"""Files that are mapped into memory, and shorter than they were, or out of reach, when they are read."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import NoReturn

_SENTENCE = (
    "bigs: A file that was being read, of token shards or weights, was cut short, or its disk is out of reach (bus "
    "error). Put it back, and {then}.\n"
)
_message = _SENTENCE.format(then="give the command again").encode()


def tell_cut_files() -> None:
    """Have this process end with a sentence and exit code 1, where the system would kill it without one.

    A handler of Python's own would never be called: the read that failed is tried again and again.
    """
    if not hasattr(signal, "SIGBUS"):
        return
    library = ctypes.CDLL(None)
    library.signal.argtypes, library.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    library.signal(signal.SIGBUS, ctypes.cast(_handler, ctypes.c_void_p))


def set_resume_command(command: str) -> None:
    """Have that sentence say that `command` continues the work."""
    global _message
    _message = _SENTENCE.format(then=f"continue with `{command}`").encode("utf-8", "surrogateescape")


def _end(_: int) -> NoReturn:
    os.write(2, _message)
    os._exit(1)


_handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_end)  # lives as long as the process
