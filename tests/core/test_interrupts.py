"""An interrupt at any moment leaves no draft of a file or folder."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from bigs_cli.checkpoints.folder import atomic_directory
from bigs_cli.core.files import atomic_write
from bigs_cli.core.interrupts import defer_signals
from bigs_cli.data.staging import staging

OURS = (f"{os.sep}bigs_cli{os.sep}", f"{os.sep}contextlib.py")


def interrupted(make: Callable[[Path], None], output: Path, line: int) -> bool:
    """Call `make` with a SIGINT at its `line`-th line in our code and contextlib; return whether it was interrupted."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        nonlocal lines
        if not any(place in frame.f_code.co_filename for place in OURS):
            return None
        if event == "line":
            lines += 1
            if lines == line:
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        make(output)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    assert lines < line, f"the interrupt at line {line} of {lines} was lost"
    return False


def make_folder(output: Path) -> None:
    with atomic_directory(output) as draft:
        (draft / "part").touch()


def make_file(output: Path) -> None:
    with atomic_write(output, "w") as file:
        file.write("all")


def make_shards(output: Path) -> None:
    with staging(output) as place:
        place.folder.rename(output.parent / "whole")
        output.rmdir()


# If the interrupt comes just after a file was opened, the garbage collector closes it instead of `with`.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("make", [make_folder, make_file, make_shards])
def test_an_interrupt_leaves_all_or_nothing(make: Callable[[Path], None], tmp_path: Path) -> None:
    whole = "whole" if make is make_shards else "made"
    line, came = 0, True
    while came:
        line += 1
        place = tmp_path / str(line)
        place.mkdir()
        came = interrupted(make, place / "made", line)
        names = [path.name for path in place.iterdir()]
        assert names == [whole] or (came and not names), f"interrupted at line {line}"
    gc.collect()  # while the warnings are still ignored
    assert line > 30
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_deferred_signals_are_delivered_afterwards() -> None:
    done = []

    def work() -> None:
        with defer_signals():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            done.append("all")

    before = signal.signal(signal.SIGTERM, lambda *_: done.append("terminated"))
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done == ["all", "terminated"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_do_not_change_handlers() -> None:
    handlers: list[object] = []

    def work() -> None:
        with defer_signals():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]
