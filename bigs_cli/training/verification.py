"""Verifies the training data while the first steps are taken; no checkpoint is written before it has succeeded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from bigs_cli.core.errors import RequestError
from bigs_cli.core.processes import any_process
from bigs_cli.reporting.console import err


class Verification:
    """A check in a thread of its own, which ends with this context at the latest.

    The check calls its argument now and then, with the number of bytes that it has read.
    """

    def __init__(self, check: Callable[[Callable[[int], None]], None]) -> None:
        self._check, self._stop, self._complete = check, threading.Event(), False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="verification")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._check(self._advance)
        except BaseException as error:
            self._error = error

    def _advance(self, size: int) -> None:
        if self._stop.is_set():
            raise InterruptedError

    def poll(self) -> None:
        """Raise the error if the check has failed in some process. All processes call this at the same steps.

        Raises:
            RequestError: the error of this process, or a sentence about that of another one.
        """
        if self._complete or not any_process(self._error is not None):
            return
        raise self._error or RequestError("Another process refuses the shards; its message says why.")

    def wait(self) -> None:
        """Return once the check has succeeded in every process, or raise its error as `poll` does."""
        if self._complete:
            return
        if self._thread.is_alive():
            err.print("Waiting for the verification of the shards.")
        self._thread.join()
        self.poll()
        self._complete = True
