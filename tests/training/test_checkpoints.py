"""Which checkpoints are kept, and how a run recovers from corrupt checkpoints or from being killed."""

from __future__ import annotations

import json
import random
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bigs_cli.checkpoints.checksums import CHECKSUMS, find_corruption, read_score, steps
from bigs_cli.checkpoints.orbax import Keep
from bigs_cli.reporting.metrics_log import read_metrics
from tests.tiny import bigs, pretrain, snapshot, start_bigs
from tests.training.test_resume import same, training_log

MANY = {"steps": 12, "checkpoint__every_steps": 4, "checkpoint__keep": 9}


def largest(checkpoint: Path, item: str) -> Path:
    return max(
        (path for path in (checkpoint / item).rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )


def truncate(checkpoint: Path) -> None:
    path = largest(checkpoint, "params")
    path.write_bytes(path.read_bytes()[:-1])


def flip(checkpoint: Path) -> None:
    path = largest(checkpoint, "params")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(checkpoint: Path) -> None:
    largest(checkpoint, "optimizer").write_bytes(b"")


def remove(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint / "position")


def corrupt_checksums(checkpoint: Path) -> None:
    (checkpoint / "seal.json").write_text('{"files"')


@pytest.fixture(scope="module")
def saved(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with the checkpoints 4, 8 and 12. Do not modify it."""
    run = tmp_path_factory.mktemp("saved") / "run"
    bigs(*pretrain(shards, run, **MANY)).fine()
    assert steps(run / "checkpoints") == [4, 8, 12]
    return run


@pytest.mark.parametrize(
    ("corrupt", "problem"),
    [
        (truncate, r"params/.+ has \d+ bytes instead of \d+"),
        (flip, "params/.+ was modified: its SHA-256"),
        (empty, "optimizer/.+ has 0 bytes"),
        (remove, "position/.+ is missing"),
        (corrupt_checksums, r"seal\.json is corrupt"),
        (lambda checkpoint: (checkpoint / "seal.json").unlink(), r"it has no seal\.json"),
    ],
)
def test_every_kind_of_corruption_is_detected(
    saved: Path, tmp_path: Path, corrupt: Callable[[Path], None], problem: str
) -> None:
    checkpoint = shutil.copytree(saved / "checkpoints" / "12", tmp_path / "12")
    assert find_corruption(checkpoint) is None
    corrupt(checkpoint)
    assert re.match(problem, str(find_corruption(checkpoint)))


def test_a_corrupt_checkpoint_is_skipped(shards: Path, saved: Path, tmp_path: Path) -> None:
    run = shutil.copytree(saved, tmp_path / "run")
    flip(run / "checkpoints" / "12")
    (run / "checkpoints" / "8" / "_CHECKPOINT_METADATA").write_bytes(b"{")  # written by Orbax, but not needed
    again = bigs(*pretrain(shards, run, "--resume")).fine()
    assert re.search(r"checkpoints/12 is corrupt \(.+\); using that of step 8", again.err)
    assert f"Resuming {run} after step 8." in again.err
    assert training_log(run) == training_log(saved)
    assert same(run / "checkpoints", saved / "checkpoints")
    assert steps(run / "checkpoints") == [4, 8, 12]
    assert (run / "checkpoints" / "12.damaged").is_dir()


def test_two_corrupt_checkpoints_and_an_incomplete_one_are_skipped(shards: Path, saved: Path, tmp_path: Path) -> None:
    run = shutil.copytree(saved, tmp_path / "run")
    for step in (8, 12):
        flip(run / "checkpoints" / str(step))
    shutil.copytree(saved / "checkpoints" / "12", run / "checkpoints" / "16.orbax-checkpoint-tmp")
    again = bigs(*pretrain(shards, run, "--resume")).fine()
    assert again.err.count("using that of step") == 2
    assert "after step 4." in again.err
    assert same(run / "checkpoints", saved / "checkpoints")
    assert not list((run / "checkpoints").glob("16*"))


def test_loading_the_model_of_a_run_skips_corrupt_checkpoints(shards: Path, saved: Path, tmp_path: Path) -> None:
    run = shutil.copytree(saved, tmp_path / "run")
    flip(run / "checkpoints" / "12")
    empty(run / "checkpoints" / "8")  # its parameters remain valid
    before = snapshot(run)
    done = bigs("eval", "mlm", "--model", run, "--data", shards).fine()
    assert "checkpoints/12 is corrupt" in done.err
    assert "step 8" in done.err
    assert snapshot(run) == before


def test_if_all_checkpoints_are_corrupt_nothing_is_changed(shards: Path, saved: Path, tmp_path: Path) -> None:
    run = shutil.copytree(saved, tmp_path / "run")
    for step in (4, 8, 12):
        truncate(run / "checkpoints" / str(step))
    before = snapshot(run)
    done = bigs(*pretrain(shards, run, "--resume"))
    assert (done.code, done.out) == (2, "")
    assert f"All checkpoints in {run}/checkpoints are corrupt (step 12: params/" in done.err
    assert snapshot(run) == before


def test_a_checkpoint_without_checksums_is_skipped(shards: Path, saved: Path, tmp_path: Path) -> None:
    """The checksums are written last; without them the checkpoint may be incomplete."""
    run = shutil.copytree(saved, tmp_path / "run")
    (run / "checkpoints" / "12" / "seal.json").unlink()
    (run / "checkpoints" / "25").mkdir()
    again = bigs(*pretrain(shards, run, "--resume")).fine()
    assert again.err.count("so it is incomplete") == 2
    assert "after step 8." in again.err
    assert same(run / "checkpoints", saved / "checkpoints")


def test_which_checkpoints_are_kept() -> None:
    scores = {10: 3.0, 20: 2.5, 30: 2.0, 40: None, 50: 2.0, 60: 2.1, 70: None}
    assert Keep(2).kept(scores) == {60, 70}
    assert Keep(1, 20).kept(scores) == {20, 40, 60, 70}
    assert Keep(1, best=True).kept(scores) == {30, 70}
    assert Keep(1, best=True).kept({10: None, 20: None}) == {20}


def test_a_run_keeps_the_newest_every_nth_and_the_best_checkpoint(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = {"keep": 1, "keep_every": 4, "keep_best": "true", "every_steps": 4}
    changes = {f"checkpoint__{name}": value for name, value in settings.items()} | {"evaluate__max_batches": 1}
    # The learning rate rises so high that the loss rises too: the best evaluation is not the last.
    changes |= {"steps": 13, "schedule__warmup_steps": 13, "evaluate__every_steps": 3, "optimizer__learning_rate": 3}
    bigs(*pretrain(shards, run, **changes)).fine()
    losses = {e["step"]: e["heldout_loss"] for e in read_metrics(run / "metrics.jsonl") if "heldout_loss" in e}
    del losses[13]  # measured on all held-out rows
    best = min(losses, key=losses.__getitem__)
    assert best < 12, losses
    assert steps(run / "checkpoints") == sorted({best, 4, 8, 12, 13})
    checksums = json.loads((run / "checkpoints" / str(best) / "seal.json").read_text())
    assert checksums["score"] == pytest.approx(losses[best])


def kill(shards: Path, run: Path, steps_to_reach: int, delay: float, resume: bool, **changes: object) -> bool:
    """Start or resume a run, and kill it `delay` s after it logged that step. Return False if it finished first."""
    running = start_bigs(*pretrain(shards, run, *(["--resume"] if resume else []), **changes))
    try:
        while running.poll() is None:
            if any(entry["step"] >= steps_to_reach for entry in read_metrics(run / "metrics.jsonl")):
                time.sleep(delay)
                break
            time.sleep(0.002)
        running.kill()
        err = running.communicate()[1]
    finally:
        running.kill()
    assert running.returncode in (0, -9), err
    return running.returncode == -9


def test_a_killed_and_resumed_run_matches_an_uninterrupted_one(shards: Path, tmp_path: Path) -> None:
    """A short version of tests/long/kill_pretrain.py."""
    changes = {"steps": 60, "evaluate__every_steps": 25, "checkpoint__every_steps": 5, "checkpoint__keep_best": "true"}
    bigs(*pretrain(shards, tmp_path / "steady", **changes)).fine()
    rng = random.Random(0)
    for number, step in enumerate((12, 37)):
        kill(shards, tmp_path / "killed", step, rng.uniform(0, 0.05), number > 0, **changes)
    bigs(*pretrain(shards, tmp_path / "killed", "--resume")).fine()
    assert same(tmp_path / "steady" / "checkpoints", tmp_path / "killed" / "checkpoints")
    assert training_log(tmp_path / "steady") == training_log(tmp_path / "killed")
    assert steps(tmp_path / "steady" / "checkpoints") == steps(tmp_path / "killed" / "checkpoints")


def test_an_invalid_score_is_none(tmp_path: Path) -> None:
    for value in ("1" * 400, "[]", '"high"', "{}"):
        (tmp_path / CHECKSUMS).write_text(f'{{"score": {value}, "files": {{}}}}')
        assert read_score(tmp_path) is None
