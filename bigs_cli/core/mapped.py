"""Files that are mapped into memory, and shorter than they were, or out of reach, when they are read."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import NoReturn

_SENTENCE = (
    b"bigs: A file that was being read, of token shards or weights, was cut short, or its disk is out of reach (bus "
    b"error). Put it back, and go on with --resume, or give the command again.\n"
)


def tell_cut_files() -> None:
    """Have this process end with a sentence and exit code 1, where the system would kill it without one.

    A handler of Python's own would never be called: the read that failed is tried again and again.
    """
    if not hasattr(signal, "SIGBUS"):
        return
    library = ctypes.CDLL(None)
    library.signal.argtypes, library.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    library.signal(signal.SIGBUS, ctypes.cast(_handler, ctypes.c_void_p))


def _end(_: int) -> NoReturn:
    os.write(2, _SENTENCE)
    os._exit(1)


_handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_end)  # lives as long as the process
