"""Deferring SIGINT and SIGTERM in short critical sections."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Defer SIGINT and SIGTERM to the end of the block.

    Use it for short blocks that create something and record it for cleanup, so that no interrupt occurs in between.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Signals reach the main thread only.
        return
    received: list[int] = []
    # Only Python handlers are replaced. A handler that is not callable is SIG_DFL, SIG_IGN or None (not set from
    # Python), and stays in place.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    try:
        for number in before:
            signal.signal(number, lambda number, _: received.append(number))
        yield
    finally:
        for number, handler in reversed(before.items()):
            signal.signal(number, handler)
        for number in received:
            signal.raise_signal(number)
