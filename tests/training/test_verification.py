"""Shards are verified while the first steps are taken, and before the first checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigs_cli.checkpoints.orbax import Checkpoints
from bigs_cli.core.errors import RequestError
from bigs_cli.data.shards import Shards
from bigs_cli.reporting.metrics_log import MetricsLog
from bigs_cli.training.verification import Verification
from tests.tiny import HANG, bigs, pretrain


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, as reading a large file takes time."""
    ends = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def logged_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the steps of the training log are added."""
    steps: list[int] = []
    write = MetricsLog.write

    def write_and_note(self: MetricsLog, step: int, **values: Any) -> None:
        write(self, step, **values)
        steps.append(step)

    monkeypatch.setattr(MetricsLog, "write", write_and_note)
    return steps


def test_modified_shards_that_are_found_late_leave_nothing(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = logged_steps(monkeypatch)

    def refuse(self: Shards, *_: object) -> None:
        until(lambda: len(steps) >= 2)
        if (tmp_path / "kept").exists():
            (tmp_path / "kept" / "note.txt").touch()
        raise RequestError("train-00000.bin was modified.")

    monkeypatch.setattr(Shards, "verify", refuse)
    for run, left in (("run", None), ("kept", ["note.txt"])):
        steps.clear()
        done = bigs(*pretrain(shards, tmp_path / run, evaluate__every_steps=1000))
        assert (done.code, done.out) == (2, "")
        assert "bigs: train-00000.bin was modified." in done.err
        assert len(steps) >= 2
        folder = tmp_path / run
        assert (sorted(path.name for path in folder.iterdir() if path.name != ".lock") if left else None) == left
        assert folder.exists() == bool(left)


def test_the_first_checkpoint_waits_for_the_verification(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    verified: list[bool] = []
    wait, save = Verification.wait, Checkpoints.save

    def wait_and_note(self: Verification) -> None:
        asked.append(True)
        wait(self)

    def verify(self: Shards, *_: object) -> None:
        until(lambda: asked)
        time.sleep(0.5)
        verified.append(True)

    def save_verified(self: Checkpoints, *values: Any) -> None:
        assert verified
        save(self, *values)

    monkeypatch.setattr(Verification, "wait", wait_and_note)
    monkeypatch.setattr(Shards, "verify", verify)
    monkeypatch.setattr(Checkpoints, "save", save_verified)
    done = bigs(*pretrain(shards, tmp_path / "run", evaluate__every_steps=1000)).fine()
    assert "Waiting for the verification of the shards." in done.err
    assert (tmp_path / "run" / "checkpoints" / "6").is_dir()


def test_the_check_ends_with_the_run() -> None:
    read: list[int] = []

    def endless(advance: Callable[[int], None]) -> None:
        while True:
            read.append(1)
            advance(1)

    with Verification(endless) as verification:
        until(lambda: read)
        verification.poll()
    count = len(read)
    time.sleep(0.05)
    assert len(read) == count
