"""The guard detects violations; otherwise the fuzz tests would pass for a parser that executes a file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import guard
from tests.fuzz.guard import Violation, watched


def spend(folder: Path) -> None:
    while True:
        pass


def swell(folder: Path) -> None:
    bytearray(os.urandom(1)) * ((guard.MEGABYTES + 200) << 20)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda folder: (folder.parent / "outside").write_text("x"), "open .*outside"),
        (lambda folder: (folder / ".." / "outside").mkdir(), "os.mkdir .*outside"),
        (lambda folder: subprocess.run([sys.executable, "-c", ""], check=True), "subprocess.Popen"),
        (lambda folder: os.system("true"), "os.system"),
        (spend, "not done after 1 s"),
        (swell, "took .* MB"),
    ],
)
def test_violations_are_detected(
    act: Callable[[Path], object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if act is spend:
        monkeypatch.setattr(guard, "SECONDS", 1)
    (tmp_path / "inside").mkdir()
    with pytest.raises(Violation, match=message), watched(tmp_path / "inside"):
        act(tmp_path / "inside")


def test_reading_and_writing_inside_the_folder_are_allowed(tmp_path: Path) -> None:
    with watched(tmp_path):
        (tmp_path / "file").write_text("x")
        assert (tmp_path / "file").read_text() == "x"
