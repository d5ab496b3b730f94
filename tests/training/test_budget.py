"""The number of steps of a run with a time budget."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.recipe import PretrainRecipe, load_recipe
from bigs_cli.training import budget
from tests.tiny import bigs, pretrain
from tests.training.test_resume import same


def recipe(**changes: Any) -> PretrainRecipe:
    made = load_recipe("demo", [f"{name}={value}" for name, value in {"budget": "10m", **changes}.items()])
    assert isinstance(made, PretrainRecipe)
    return made


def fit(of: PretrainRecipe, *, seconds: float = 0.5, compiling: float = 10, spent: float = 20, rows: int = 0) -> int:
    return budget._fit(of, seconds, compiling, time.perf_counter() - spent, rows)


def test_the_rest_of_the_budget_is_divided_by_the_time_of_a_step() -> None:
    assert [recipe(budget=text).budget_seconds for text in ("90s", "2m", "1.5h")] == [90, 120, 5400]
    assert fit(recipe()) in (1159, 1160)  # (600 − 20) / 0.5


def test_evaluations_take_their_share() -> None:
    """Ten batches of 32 rows take ten thirds of a step, every 100 steps and at the end; compiling takes 10 / 3 s."""
    steps = fit(recipe(**{"evaluate.every_steps": 100}), rows=320)
    assert steps * 0.5 + (steps / 100 + 1) * 10 / 3 * 0.5 == pytest.approx(580 - 10 / 3, abs=1)
    few = fit(recipe(**{"evaluate.every_steps": 100, "evaluate.max_batches": 1}), rows=320)
    assert few * 0.5 + few / 100 / 3 * 0.5 + 10 / 3 * 0.5 == pytest.approx(580 - 10 / 3, abs=1)


def test_small_batches_of_a_warmup_take_less_time() -> None:
    steps = fit(recipe(batch_size_warmup="{start: 8, steps: 100}"))
    assert 50 * 0.5 / 4 + 50 * 0.5 / 2 + (steps - 100) * 0.5 == pytest.approx(580, abs=1)
    within = fit(recipe(batch_size_warmup="{start: 8, steps: 20000}"))
    assert within * 0.5 / 4 == pytest.approx(580, abs=1)


def test_the_run_records_the_number_of_steps(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_fit", lambda *measured: 4)
    done = bigs(*pretrain(shards, tmp_path / "run", "--budget", "0.01s")).fine()
    assert "Measuring the speed for a budget of 0.01s, which replaces steps: 6." in done.err
    assert "4 steps of" in done.err
    recorded = load_recipe(str(tmp_path / "run" / "recipe.yaml"))
    assert isinstance(recorded, PretrainRecipe)
    assert (recorded.steps, recorded.budget) == (4, None)
    # The measured steps leave no trace: the run is the one that its recipe gives.
    bigs(*pretrain(shards, tmp_path / "again", steps=4)).fine()
    assert same(tmp_path / "run" / "checkpoints", tmp_path / "again" / "checkpoints")
    refused = bigs(*pretrain(shards, tmp_path / "run", "--resume", "--budget", "1h"))
    assert refused.code == 2
    assert "Leave out --set, --budget and --teacher" in refused.err


def test_a_budget_that_is_too_short_is_rejected(shards: Path, tmp_path: Path) -> None:
    done = bigs(*pretrain(shards, tmp_path / "run", "--budget", "0.01s"))
    assert done.code == 2
    assert "none fits into the budget of 0.01s" in done.err
    assert not (tmp_path / "run").exists()
    for text in ("soon", "60", "0m", "0.0h"):
        with pytest.raises(RequestError, match=f"budget is {text}, which is not a time such as 60m"):
            recipe(budget=text)
    shown = bigs("pretrain", "--recipe", "small-15m", "--run", tmp_path / "run", "--dry-run").fine().out
    assert "in total; the budget of 15m replaces this number" in " ".join(shown.split())


def test_a_warmup_longer_than_the_run_is_rejected(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_fit", lambda *measured: 1)
    done = bigs(*pretrain(shards, tmp_path / "run", "--budget", "0.01s"))
    assert "is enough for 1 step. schedule.warmup_steps is 2, more than steps, which is 1. Raise --budget" in done.err
    monkeypatch.setattr(budget, "_fit", lambda *measured: 6)
    phases = {"schedule__kind": "wsd", "schedule__warmup_steps": 5, "schedule__decay_fraction": 0.5}
    done = bigs(*pretrain(shards, tmp_path / "run", "--budget", "0.01s", steps=50, **phases))
    assert (done.code, "The warmup and the decay overlap" in done.err) == (2, True)
    assert not (tmp_path / "run").exists()
