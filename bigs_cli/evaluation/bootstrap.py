"""Confidence intervals of a figure, and of the difference of two: the bootstrap over the examples of a dev set.

They say what the figure might be with another dev set of this size, and nothing about other seeds.
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


def bootstrap(metrics: Sequence[Metric], count: int, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap's 95% interval of a metric's mean over runs, one of `metrics` each.

    The `count` examples are drawn anew, with replacement, the same for all runs (Efron & Tibshirani 1993, §13).
    """
    return _interval(_drawn(lambda places: float(np.mean([of(places) for of in metrics])), count, resamples, seed))


def paired_bootstrap(
    first: Metric, second: Metric, count: int, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[tuple[float, float], float]:
    """Return the 95% interval of the second metric minus the first, and a two-sided p of "no difference".

    The `count` examples are drawn anew, with replacement, the same for both. The interval is the percentile one, and p
    the largest level at which such an interval holds 0: twice the smaller share of differences on either side of it,
    one counted more (Efron & Tibshirani 1993, §13.3 and §15.4). It is at least 2 / (resamples + 1).
    """
    values = _drawn(lambda places: second(places) - first(places), count, resamples, seed)
    rarer = min((values <= 0).sum(), (values >= 0).sum())
    return _interval(values), float(min(1.0, 2 * (rarer + 1) / (resamples + 1)))


def intervals(task: Task, runs: Sequence[Lines]) -> dict[str, tuple[float, float]]:
    """Return the bootstrap interval of every metric of the dev set, from the predictions of one or more runs.

    Raises:
        RequestError: a line is not of this task.
    """
    scores = [example_scores(task, lines) for lines in runs]
    return {name: bootstrap([run.metrics[name] for run in scores], scores[0].count) for name in task.metrics}


def _drawn(value: Callable[[Array], float], count: int, resamples: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return np.array([value(rng.integers(0, count, count)) for _ in range(resamples)])


def _interval(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
