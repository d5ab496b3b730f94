"""Runs of an earlier version can be resumed, loaded and used for predictions."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from bigs_cli.reporting.metrics_log import read_metrics
from tests.tiny import bigs

ARCHIVE = Path(__file__).parent / "fixtures" / "earlier_runs.tar.xz"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The unpacked runs: `shards`, `tasks`, `pretrain` (stopped after 4 of 8 steps) and `finetune` (finished)."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    for file in tmp_path.rglob("*"):
        if file.suffix in (".json", ".yaml", ".jsonl") and "checkpoints" not in file.parts:
            file.write_text(file.read_text().replace("ROOT", str(tmp_path)))
    return tmp_path


def test_an_interrupted_pretraining_run_resumes(earlier: Path) -> None:
    run = earlier / "pretrain"
    done = bigs("pretrain", "--resume", "--run", run).fine()
    assert "after step 4" in done.err
    logs = [read_metrics(run / name) for name in ("metrics.jsonl", "expected.jsonl")]
    losses = [[(entry["step"], entry["loss"]) for entry in log if "loss" in entry] for log in logs]
    assert [step for step, _ in losses[0]] == [*range(1, 9)]
    # Other processors and versions of XLA round differently.
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_a_finished_fine_tuning_run_loads(earlier: Path) -> None:
    run = earlier / "finetune"
    measured = json.loads(bigs("eval", "mrpc", "--model", run, "--data", earlier / "tasks", "--json").fine().out)
    results = json.loads((run / "results.json").read_text())
    assert measured["metrics"] == pytest.approx(results["metrics"])
    text = "The river rises in the hills."
    answer = json.loads(bigs("predict", "--model", run, text, "--pair", text, "--format", "jsonl").fine().out)
    assert answer["prediction"] in ("equivalent", "not_equivalent")
    assert re.search(r"^state +finished", bigs("runs", "show", run).fine().out, re.MULTILINE)
