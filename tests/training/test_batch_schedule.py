"""Batch-size warmup, limits on tokens and time, and the moving average: separately, and combined in a resumed run."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigs_cli.checkpoints.checksums import steps
from bigs_cli.checkpoints.resolve import find_model, open_model
from bigs_cli.core.errors import RequestError
from bigs_cli.data.loader import train_batches
from bigs_cli.data.shards import open_shards
from bigs_cli.recipe import PretrainRecipe, load_recipe
from bigs_cli.reporting.metrics_log import read_metrics
from bigs_cli.training import batch_schedule
from tests.models.test_sharding import back_to, near
from tests.tiny import LENGTH, bigs, pretrain
from tests.training.test_processes import finish, start
from tests.training.test_resume import same, training_log


def recipe(**changes: object) -> PretrainRecipe:
    merged = {"data.sequence_length": 10, "masking.max_predictions": 2} | changes
    loaded = load_recipe("demo", [f"{name}={value}" for name, value in merged.items()])
    assert isinstance(loaded, PretrainRecipe)
    return loaded


def test_the_batch_size_doubles_during_the_warmup() -> None:
    """Three doublings from 4 to 32; each size lasts 3 or 4 of the 10 steps."""
    ramp = recipe(batch_size_warmup="{start: 4, steps: 10}", batch_size=32)
    assert [batch_schedule.rows_of(ramp, step) for step in range(13)] == [4] * 4 + [8] * 3 + [16] * 3 + [32] * 3
    assert batch_schedule.tokens_until(ramp, 12) == 10 * (4 * 4 + 3 * 8 + 3 * 16 + 2 * 32)
    assert [batch_schedule.rows_of(recipe(batch_size=32), step) for step in (0, 5)] == [32, 32]


@given(st.integers(1, 3), st.integers(1, 9), st.integers(80, 90), st.integers(1, 10_000))
@settings(max_examples=40)
def test_max_tokens_ends_the_run_at_the_step_that_reaches_it(
    doublings: int, over: int, steps: int, tokens: int
) -> None:
    changes = {"batch_size_warmup": f"{{start: 2, steps: {over}}}", "batch_size": 2 << doublings, "max_tokens": tokens}
    ramp = recipe(steps=steps, **changes)
    sums = list(itertools.accumulate(10 * batch_schedule.rows_of(ramp, step) for step in range(steps)))
    assert sums == [batch_schedule.tokens_until(ramp, step + 1) for step in range(steps)]
    assert batch_schedule.last_step(ramp) == 1 + next((i for i, total in enumerate(sums) if total >= tokens), steps - 1)


def test_batch_size_warmup_reads_every_row_once(shards: Path) -> None:
    opened = open_shards(shards)
    batches = train_batches(opened.split("train"), 2, 0)
    rows = [batch_schedule.take(batches, units)["input_ids"] for units in (1, 2, 4)]
    assert [len(part) for part in rows] == [2, 4, 8]
    np.testing.assert_array_equal(np.concatenate(rows), next(train_batches(opened.split("train"), 14, 0))["input_ids"])


RAMP = ("--set", "batch_size_warmup={start: 4, steps: 6}")
EVERYTHING: dict[str, Any] = {
    "steps": 12,
    "max_tokens": 47 * LENGTH,
    "optimizer__ema": 0.9,
    "schedule__kind": "wsd",
    "checkpoint__every_steps": 4,
    "checkpoint__keep": 3,
}


@pytest.fixture(scope="module")
def everything(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with warmup from 4 to 8 rows over 6 steps, a moving average and wsd. Do not modify it.

    Its `max_tokens` are those of 47 rows; the first 9 of its 12 steps read 6 × 4 + 3 × 8 = 48 rows.
    """
    run = tmp_path_factory.mktemp("everything") / "run"
    bigs(*pretrain(shards, run, *RAMP, **EVERYTHING)).fine()
    return run


def test_two_processes_match_one_and_resume_as_one(shards: Path, everything: Path, tmp_path: Path) -> None:
    """Each process reads its rows of every batch size, and both hold a part of the moving average."""
    two = tmp_path / "two [2]"  # Each process accesses it through its own symbolic link.
    messages = finish(start(2, pretrain(shards, two, *RAMP, **EVERYTHING)))
    assert "on 2 cpu devices" in messages[0]
    assert "step" not in messages[1]
    near(two, everything)
    one = back_to(two, tmp_path / "one", 4)
    bigs(*pretrain(shards, one, "--resume")).fine()
    near(one, everything)


def test_the_run_stops_at_max_tokens(everything: Path) -> None:
    results = json.loads((everything / "results.json").read_text())
    assert (results["steps"], results["stopped_by"], results["tokens"]) == (9, "max_tokens", 48 * LENGTH)
    assert steps(everything / "checkpoints") == [4, 8, 9]
    last = [entry for entry in read_metrics(everything / "metrics.jsonl") if entry["step"] == 9]
    assert [name for entry in last for name in ("loss", "heldout_loss") if name in entry] == ["loss", "heldout_loss"]
    assert last[1]["heldout_loss"] == results["metrics"]["heldout_loss"]


def test_resuming_during_the_warmup_gives_the_same_run(shards: Path, everything: Path, tmp_path: Path) -> None:
    run = shutil.copytree(everything, tmp_path / "run")
    (run / "results.json").unlink()
    for step in (8, 9):
        shutil.rmtree(run / "checkpoints" / str(step))
    bigs(*pretrain(shards, run, "--resume")).fine()
    assert training_log(run) == training_log(everything)
    assert same(run / "checkpoints", everything / "checkpoints")


def test_the_moving_average_is_evaluated_and_loaded(shards: Path, everything: Path, tmp_path: Path) -> None:
    model = open_model(find_model(str(everything)))
    assert model.source.endswith("last checkpoint (step 9), averaged parameters")
    measured = bigs("eval", "mlm", "--model", everything, "--data", shards, "--json").fine()
    ended = json.loads((everything / "results.json").read_text())["metrics"]
    assert json.loads(measured.out)["metrics"]["loss"] == ended["heldout_loss"]
    plain = shutil.copytree(everything / "checkpoints" / "9", tmp_path / "checkpoints" / "9")
    shutil.rmtree(plain / "ema")
    shutil.copy(everything / "config.json", tmp_path)
    assert not same(plain.parent, everything / "checkpoints"), "the parameters equal their moving average"


def test_max_minutes_ends_a_run_and_resuming_does_not_extend_it(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    bigs(*pretrain(shards, run, max_minutes=1e-6)).fine()
    results = json.loads((run / "results.json").read_text())
    assert (results["steps"], results["stopped_by"]) == (1, "max_minutes")
    ended = training_log(run)
    assert [entry["step"] for entry in ended] == [1, 1]
    bigs(*pretrain(shards, run, "--resume")).fine()
    assert training_log(run) == ended
    assert steps(run / "checkpoints") == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size_warmup": "{start: 12}"}, "'batch_size_warmup.steps' is missing"),
        ({"batch_size_warmup": "{start: 12, steps: 5}"}, "batch_size 32 is not batch_size_warmup.start 12 doubled"),
        ({"batch_size_warmup": "{start: 32, steps: 5}"}, "batch_size 32 is not batch_size_warmup.start 32 doubled"),
        (
            {"batch_size_warmup": "{start: 2, steps: 5}", "gradient_accumulation_steps": 4},
            "batch_size_warmup.start 2 is not divisible by gradient_accumulation_steps 4",
        ),
        ({"schedule.kind": "wsd", "schedule.decay_fraction": 0.95}, "The warmup and the decay overlap"),
    ],
)
def test_incompatible_settings_are_rejected(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        recipe(**changes)
