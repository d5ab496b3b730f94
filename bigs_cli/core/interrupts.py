"""Interrupts that wait: for what must be whole before it can be undone."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Have SIGINT and SIGTERM wait until the block has ended.

    It is for blocks that take a moment, inside the `try` that undoes them: no interrupt comes between what is made and
    the note that it is there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Signals reach the main thread only.
        return
    came: list[int] = []
    # What is no function ends the process at once, is ignored, or was not set by Python, which could not set it again.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    try:
        for number in before:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in reversed(before.items()):
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)
