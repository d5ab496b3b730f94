"""Several real processes on this machine's loopback start and end together.

That they train as one, and hand over to one: test_amount.py. More of them, and their deaths: tests/long/processes.py.
"""

from __future__ import annotations

import socket
from pathlib import Path
from subprocess import Popen

from tests.tiny import HANG, bigs, pretrain, start_bigs


def start(count: int, shards: Path, run: Path, *more: object, **changes: object) -> list[Popen[str]]:
    """Start `count` processes of one training; each has one CPU device."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = ("--coordinator", f"127.0.0.1:{port}", "--processes", count, "--process")
    command = pretrain(shards, run, *more, **changes)
    return [start_bigs(*command, *together, index, XLA_FLAGS="") for index in range(count)]


def finish(running: list[Popen[str]], code: int = 0) -> list[str]:
    """Wait for all, which must end with `code`, and return what each said on stderr; process 0 alone says the run."""
    said = []
    try:
        for process in running:
            out, err = process.communicate(timeout=HANG)
            assert process.returncode == code, err
            assert bool(out) == (process is running[0] and code == 0), out
            said.append(err)
    finally:
        for process in running:
            process.kill()
    return said


def test_a_refusal_of_one_ends_all(shards: Path, tmp_path: Path) -> None:
    """Process 0 finds the folder in use; process 1 does not look, and is told."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "note").write_text("mine")
    said = finish(start(2, shards, run), 2)
    assert "is in use" in said[0]
    assert "process 0 of 2 ended: The folder" in said[1]


def test_a_group_that_makes_no_sense_is_refused(shards: Path, tmp_path: Path) -> None:
    command = pretrain(shards, tmp_path / "run")
    for options, told in (
        (("--process", 0), "go together"),
        (("--coordinator", "here", "--process", 0, "--processes", 2), "no HOST:PORT"),
        (("--coordinator", "here:1", "--process", 2, "--processes", 2), "count from 0"),
    ):
        refused = bigs(*command, *options)
        assert (refused.code, refused.out) == (2, "")
        assert told in refused.err
    assert not (tmp_path / "run").exists()
