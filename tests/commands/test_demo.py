"""`bigs demo` after one of its commands was killed: the error, and how to continue."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import bigs


def test_a_killed_command_is_reported_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        (tmp_path / "demo" / "shards" / ".partial").mkdir(parents=True, exist_ok=True)
        return subprocess.CompletedProcess(command, -9)

    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):
        done = bigs("demo", "--output", tmp_path / "demo")
        assert (done.code, done.out) == (1, "")
        last = done.err.splitlines()[-1]
        assert last.startswith("bigs: `bigs tokenize --input python-docs")
        assert "was stopped by SIGKILL" in last
        assert "Repeat the original command to continue" in last
    assert ["--resume" in command for command in commands] == [False, True]
