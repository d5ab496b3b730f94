"""Several real processes, connected over the loopback interface, start and end together.

test_batch_schedule.py tests that two processes train like one; tests/long/processes.py tests more processes.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from subprocess import Popen

from bigs_cli.reporting.metrics_log import read_metrics
from tests.tiny import HANG, bigs, pretrain, start_bigs


def start(count: int, shards: Path, run: Path, *more: object, **changes: object) -> list[Popen[str]]:
    """Start `count` processes of one training run; each has one CPU device."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = ("--coordinator", f"127.0.0.1:{port}", "--processes", count, "--process")
    command = pretrain(shards, run, *more, **changes)
    return [start_bigs(*command, *together, index) for index in range(count)]


def finish(running: list[Popen[str]], code: int = 0) -> list[str]:
    """Wait until all end with `code`, and return their stderr. Only process 0 prints the run folder to stdout."""
    messages = []
    try:
        for process in running:
            out, err = process.communicate(timeout=HANG)
            assert process.returncode == code, err
            assert bool(out) == (process is running[0] and code == 0), out
            messages.append(err)
    finally:
        for process in running:
            process.kill()
    return messages


def wait_for_step(run: Path, step: int, running: list[Popen[str]]) -> None:
    """Wait until the run has logged `step`."""
    ends = time.monotonic() + 90
    while not any(entry["step"] >= step for entry in read_metrics(run / "metrics.jsonl")):
        assert time.monotonic() < ends
        assert all(process.poll() is None for process in running)
        time.sleep(0.02)


def test_an_error_in_one_process_ends_all_processes(shards: Path, tmp_path: Path) -> None:
    """Process 0 rejects the run folder; process 1, which does not check it, loses contact with process 0."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "note").write_text("mine")
    first, second = start(2, shards, run)
    (error,) = finish([first], 2)
    assert "is in use" in error
    (error,) = finish([second], 1)
    assert "lost contact with process 0 of 2" in error
    assert error.count("\nbigs: ") + error.startswith("bigs: ") == 1


def test_a_lost_process_ends_the_others(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    running = start(2, shards, run, steps=100_000)
    wait_for_step(run, 1, running)
    running[1].kill()
    running[1].communicate()
    killed = time.monotonic()
    (error,) = finish([running[0]], 1)
    assert time.monotonic() - killed < 120
    assert "lost contact with process 1 of 2" in error


def test_invalid_process_options_are_rejected(shards: Path, tmp_path: Path) -> None:
    command = pretrain(shards, tmp_path / "run")
    for options, message in (
        (("--process", 0), "must be given together"),
        (("--coordinator", "here", "--process", 0, "--processes", 2), "not HOST:PORT"),
        (("--coordinator", "here:1", "--process", 2, "--processes", 2), "count from 0"),
    ):
        done = bigs(*command, *options)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
    assert not (tmp_path / "run").exists()
