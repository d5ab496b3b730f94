"""The entry point of `bigs` and `python -m bigs_cli`: prepares the standard streams and handles the exit."""

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
    """Run the command line."""
    sys.unraisablehook = _repeat_interrupt
    try:
        _prepare_streams()
        from bigs_cli.cli import main as run

        run()
        return
    except KeyboardInterrupt:  # Interrupted before `run`, which prints a message.
        pass
    except SystemExit as stop:
        if stop.code != _INTERRUPTED:
            raise
    # Outside the handlers, so that the traceback is released and the files that it referenced are closed.
    _exit_now(_INTERRUPTED)


def _prepare_streams() -> None:
    """Open missing standard streams on /dev/null, and escape characters that the encoding of stdout lacks.

    If a standard stream stays closed, the next file opened gets its descriptor, and output overwrites that file.
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
    """Escape characters as in JSON (`\\u00e9`), so that a line of JSON keeps its meaning."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _repeat_interrupt(lost: sys.UnraisableHookArgs) -> None:
    """Interrupt the main thread again if an interrupt occurred in a finalizer, where Python discards exceptions."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        threading.Timer(0.05, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(lost)


def _exit_now(code: int) -> NoReturn:
    """Exit without Python's shutdown, in which JAX frees memory that its compiling threads still use."""
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
