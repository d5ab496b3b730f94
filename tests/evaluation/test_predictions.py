"""Predictions read back, and the bootstrap: as SciPy's, and as the binomial has it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.metrics import METRICS
from bigs_cli.evaluation.predictions import Answers, answers, bootstrap, intervals, read_predictions
from bigs_cli.tasks import get_task


def drawn(n: int, seed: int) -> Answers:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    return Answers(labels, np.where(random.random(n) < 0.8, labels, 1 - labels))


def test_the_interval_is_scipys() -> None:
    one = drawn(300, 0)
    low, high = bootstrap(METRICS["accuracy"], [one], 4000)
    theirs = stats.bootstrap(
        (one.labels == one.predictions,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    assert bootstrap(METRICS["accuracy"], [one], 200) == bootstrap(METRICS["accuracy"], [one], 200)


def test_of_several_runs_it_is_that_of_their_mean() -> None:
    one, other = drawn(200, 0), drawn(200, 0)
    other.predictions[:40] = 1 - other.predictions[:40]
    mean = np.mean([METRICS["accuracy"](run.labels, run.predictions) for run in (one, other)])
    low, high = bootstrap(METRICS["accuracy"], [one, other], 500)
    assert low < mean < high
    # The mean of two runs of the same is the one.
    assert bootstrap(METRICS["f1"], [one, one], 200) == bootstrap(METRICS["f1"], [one], 200)


def test_lines_are_read_back(tmp_path: Path) -> None:
    task = get_task("rte")
    lines = [
        {"split": split, "label": label, "prediction": "entailment"}
        for split in ("dev", "dev_other")
        for label in ("entailment", "not_entailment")
    ]
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = answers(task, read_predictions(path))
    assert (read.labels.tolist(), read.predictions.tolist()) == ([0, 1], [0, 0])
    assert intervals(task, [read_predictions(path)])["accuracy"] == (0.0, 1.0)
    scores = answers(get_task("stsb"), [{"split": "dev", "label": 2.5, "prediction": 3}])
    assert (scores.labels.tolist(), scores.predictions.tolist()) == ([2.5], [3.0])
    with pytest.raises(RequestError, match="not those of MNLI"):
        answers(get_task("mnli"), lines)
    path.write_text("{}\n")
    with pytest.raises(RequestError, match="does not hold predictions"):
        read_predictions(path)
    with pytest.raises(RequestError, match="cannot be read"):
        read_predictions(tmp_path / "absent.jsonl")
