"""The guard sees what it is there for; without this a parser that ran a file would pass."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import guard
from tests.fuzz.guard import Offence, watched


def spend(folder: Path) -> None:
    while True:
        pass


def swell(folder: Path) -> None:
    bytearray(os.urandom(1)) * ((guard.MEGABYTES + 200) << 20)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda folder: (folder.parent / "outside").write_text("x"), "open .*outside"),
        (lambda folder: (folder / ".." / "outside").mkdir(), "os.mkdir .*outside"),
        (lambda folder: subprocess.run([sys.executable, "-c", ""], check=True), "subprocess.Popen"),
        (lambda folder: os.system("true"), "os.system"),
        (spend, "not done after 1 s"),
        (swell, "took .* MB"),
    ],
)
def test_an_offence_is_seen(
    act: Callable[[Path], object], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if act is spend:
        monkeypatch.setattr(guard, "SECONDS", 1)
    (tmp_path / "inside").mkdir()
    with pytest.raises(Offence, match=told), watched(tmp_path / "inside"):
        act(tmp_path / "inside")


def test_reading_and_writing_inside_are_none(tmp_path: Path) -> None:
    with watched(tmp_path):
        (tmp_path / "file").write_text("x")
        assert (tmp_path / "file").read_text() == "x"
