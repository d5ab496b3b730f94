"""The process of the command line, from its streams to its end: `bigs`, which `python -m bigs_cli` is too."""

from __future__ import annotations

import _thread
import codecs
import contextlib
import io
import json
import os
import sys
import threading
from typing import NoReturn

_INTERRUPTED = 130


def main() -> None:
    """Run the command line as a process of its own."""
    sys.unraisablehook = _interrupt_again
    try:
        _prepare_streams()
        from bigs_cli.cli import main as run

        run()
        return
    except KeyboardInterrupt:  # before `run`, which has a sentence for it
        pass
    except SystemExit as ended:
        if ended.code != _INTERRUPTED:
            raise
    # The exception is gone by now, and what its traceback still held open has been closed and cleaned up.
    _leave(_INTERRUPTED)


def _prepare_streams() -> None:
    """Give a process that has no stdin, stdout or stderr an empty one; spell out what stdout has no code for.

    Left closed, the next file that is opened would take its place, and be written over.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            assert os.open(os.devnull, os.O_RDWR) == number
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("json-escapes", _json_escapes)
        sys.stdout.reconfigure(errors="json-escapes")


def _json_escapes(error: UnicodeError) -> tuple[str, int]:
    """Spell out what an encoding lacks as JSON does, `\\u00e9`: within a line of JSON it stays that character."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _interrupt_again(lost: sys.UnraisableHookArgs) -> None:
    """Have an interrupt that came in a finalizer or a callback of the garbage collector come again: Python drops it."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        threading.Timer(0.05, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(lost)


def _leave(code: int) -> NoReturn:
    """End at once: in an orderly end JAX takes the memory of threads that still compile, and they crash."""
    if "multiprocessing" in sys.modules:
        from multiprocessing import active_children

        for child in active_children():
            child.terminate()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
