"""Slow tests of several processes: four continue a run of two, one of two is killed or interrupted, a time budget.

Run: python -m tests.long.processes
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from bigs_cli.checkpoints.orbax import steps
from bigs_cli.reporting.metrics_log import read_metrics
from tests.models.test_sharding import back_to, near
from tests.tiny import bigs, pretrain, write_shards
from tests.training.test_processes import finish, start, wait_for_step

CHANGES = {"checkpoint__every_steps": 3, "checkpoint__keep": 9}


def main() -> None:
    """Print one line for each test that passes."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["BIGS_CACHE"] = str(folder / "cache")
        shards = write_shards(folder)
        check_continuing_with_four(shards, folder)
        print("two processes, and four that continue their run, train like one process")
        check_lost_processes(shards, folder)
        print("if one process is lost, the other reports it and ends; an interrupt of one stops both with a checkpoint")
        check_budget(shards, folder)
        print("two processes with a time budget measure equally many steps, and end in time")


def check_continuing_with_four(shards: Path, folder: Path) -> None:
    """Train with one and with two processes, continue with four, and compare."""
    one, two = folder / "one", folder / "two"
    bigs(*pretrain(shards, one, **CHANGES)).fine()
    finish(start(2, pretrain(shards, two, **CHANGES)))
    four = back_to(two, folder / "four", 3)
    assert "after step 3." in finish(start(4, pretrain(shards, four, "--resume")))[0]
    near(two, one)
    near(four, one)


def check_budget(shards: Path, folder: Path) -> None:
    """Processes that measured different numbers of steps would wait for each other forever."""
    started = time.monotonic()
    finish(start(2, pretrain(shards, folder / "budget", "--budget", "60s")))
    assert 45 < time.monotonic() - started < 75


def check_lost_processes(shards: Path, tmp_path: Path) -> None:
    """Kill each of two processes, which the other reports; then interrupt one: both stop with a checkpoint."""
    run = tmp_path / "run"
    more, done = [], 2
    for victim in (1, 0):
        running = start(2, pretrain(shards, run, *more, **CHANGES, steps=100_000))
        wait_for_step(run, done + 1, running)
        running[victim].kill()
        err = running[1 - victim].communicate(timeout=120)[1]
        assert running[1 - victim].returncode == 1, err
        assert f"lost contact with process {victim} of 2" in err
        more, done = ["--resume"], read_metrics(run / "metrics.jsonl")[-1]["step"]
    running = start(2, pretrain(shards, run, "--resume"))
    wait_for_step(run, done + 1, running)
    running[1].send_signal(signal.SIGTERM)
    errors = finish(running, 130)
    assert "a checkpoint is written" in errors[0]
    assert steps(run / "checkpoints")[-1] % 10 == 0


if __name__ == "__main__":
    main()
