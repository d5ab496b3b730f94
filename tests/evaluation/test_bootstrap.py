"""The bootstrap against SciPy and against enumeration of all resamples."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bigs_cli.evaluation.bootstrap import bootstrap, intervals, paired_bootstrap
from bigs_cli.tasks import get_task

Array = np.ndarray[Any, Any]


def drawn(n: int, seed: int) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    return labels, np.where(random.random(n) < 0.8, labels, 1 - labels)


def share(right: Array) -> Callable[[Array], float]:
    return lambda places: float(right[places].mean())


def test_the_interval_matches_scipy() -> None:
    labels, predictions = drawn(300, 0)
    right = labels == predictions
    low, high = bootstrap([share(right)], 300, 4000)
    theirs = stats.bootstrap(
        (right,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    assert bootstrap([share(right)], 300, 200) == bootstrap([share(right)], 300, 200)


def test_the_interval_of_several_runs_is_that_of_their_mean() -> None:
    labels, predictions = drawn(200, 0)
    one, other = labels == predictions, labels == predictions
    other[:40] = ~other[:40]
    low, high = bootstrap([share(one), share(other)], 200, 500)
    assert low < (one.mean() + other.mean()) / 2 < high
    # The mean of two equal runs is that run.
    assert bootstrap([share(one)] * 2, 200, 200) == bootstrap([share(one)], 200, 200)


def test_every_metric_of_a_task_has_an_interval() -> None:
    labels = ("entailment", "not_entailment")
    lines = [
        {"split": split, "label": label, "prediction": "entailment"}
        for split in ("dev", "dev_other")
        for label in labels
    ]
    assert intervals(get_task("rte"), [lines]) == {"accuracy": (0.0, 1.0)}
    sentence = {"split": "dev", "words": ["a", "b"], "label": ["B-PER", "O"], "prediction": ["B-PER", "O"]}
    assert set(intervals(get_task("wikiann"), [[sentence]]).values()) == {(1.0, 1.0)}
    line = {"split": "dev", "label": ["The end"], "prediction": "end", "nbest": []}
    assert intervals(get_task("squad"), [[line]]) == {"f1": (1.0, 1.0), "exact": (1.0, 1.0)}


def test_the_paired_bootstrap_matches_all_resamples() -> None:
    labels = np.array([0, 1, 1, 0, 1])
    first, second = labels == np.array([0, 0, 1, 1, 0]), labels == np.array([0, 1, 1, 1, 1])
    every = np.array(list(itertools.product(range(5), repeat=5)))
    differences = np.array([share(second)(i) - share(first)(i) for i in every])
    (low, high), p = paired_bootstrap(share(first), share(second), 5, resamples=20_000)
    assert (low, high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))
    exact = 2 * min((differences <= 0).mean(), (differences >= 0).mean())
    assert p == pytest.approx(exact, rel=0.1)
    assert paired_bootstrap(share(second), share(first), 5, resamples=20_000)[0] == pytest.approx((-high, -low))


def test_the_paired_bootstrap_detects_a_difference() -> None:
    rng = np.random.default_rng(0)
    near, far = rng.random(200) < 0.95, rng.random(200) < 0.3
    (low, high), p = paired_bootstrap(share(far), share(near), 200, resamples=200)
    assert 0.5 < low < high
    assert p == pytest.approx(2 / 201)
    assert paired_bootstrap(share(near), share(near), 200, resamples=200) == ((0.0, 0.0), 1.0)


def test_the_paired_bootstrap_has_the_nominal_level() -> None:
    rng = np.random.default_rng(1)
    low = 0
    for _ in range(200):
        first, second = (rng.random(60) < 0.7 for _ in range(2))
        low += paired_bootstrap(share(first), share(second), 60, resamples=100)[1] <= 0.05
    assert 2 <= low <= 22  # 10 are expected; 22 is four standard deviations above
