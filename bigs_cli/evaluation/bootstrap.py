"""Bootstrap confidence intervals of a metric and of the difference of two metrics, over the examples of a dev set.

They describe the variation over dev sets of this size, not the variation over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bigs_cli.evaluation.predictions import example_scores
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types.base import Lines, Metric

Array = np.ndarray[Any, Any]

RESAMPLES = 1000
LEVEL = 0.95


def bootstrap(metrics: Sequence[Metric], count: int, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of the mean over runs of a metric; `metrics` has one entry per run.

    The `count` examples are resampled with replacement, in the same way for all runs (Efron & Tibshirani 1993, §13).
    """
    return _interval(_resample(lambda rows: float(np.mean([metric(rows) for metric in metrics])), count, resamples))


def paired_bootstrap(
    first: Metric, second: Metric, count: int, resamples: int = RESAMPLES
) -> tuple[tuple[float, float], float]:
    """Return the 95% percentile interval of the difference second − first, and a p-value.

    The `count` examples are resampled with replacement, in the same way for both. The p-value is two-sided, for the
    null hypothesis of no difference: the largest significance level α at which the (1 − α) interval contains 0. It is
    2 (k + 1) / (resamples + 1), but at most 1, where k is the smaller of the numbers of differences ≤ 0 and ≥ 0
    (Efron & Tibshirani 1993, §13.3 and §15.4).
    """
    differences = _resample(lambda rows: second(rows) - first(rows), count, resamples)
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    return _interval(differences), float(min(1.0, 2 * (rarer + 1) / (resamples + 1)))


def intervals(task: Task, runs: Sequence[Lines]) -> dict[str, tuple[float, float]]:
    """Return the bootstrap interval of every metric of the dev set, from the predictions of one or more runs.

    Raises:
        RequestError: a line is not of this task.
    """
    scores = [example_scores(task, lines) for lines in runs]
    return {name: bootstrap([run.metrics[name] for run in scores], scores[0].count) for name in task.metrics}


def _resample(value: Callable[[Array], float], count: int, resamples: int) -> Array:
    rng = np.random.default_rng(0)
    return np.array([value(rng.integers(0, count, count)) for _ in range(resamples)])


def _interval(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
