"""Two models on the same examples: is one better, or is it the luck of this dev set?

Both tests look only at where the two differ, so they see much smaller differences than two separate intervals would.
Neither speaks of other seeds: for that, train with several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.metrics import METRICS
from bigs_cli.evaluation.predictions import LEVEL, RESAMPLES, Answers, answers
from bigs_cli.reporting.paired import Paired, PairedTest
from bigs_cli.tasks.task import Task

Array = np.ndarray[Any, Any]
Lines = Sequence[Mapping[str, Any]]

_ANSWERED = ("prediction", "scores")


def mcnemar(first_right: Array, second_right: Array) -> float:
    """Return the two-sided p of McNemar's exact test of two models' rights and wrongs, each `[n]` bool.

    Where just one of two equally good models is right, it is either with probability ½: a binomial test of those
    examples (McNemar 1947; Dietterich 1998, §3). 1.0 where there are none.
    """
    from scipy.stats import binomtest

    first, second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def paired_bootstrap(
    metric: Callable[[Array, Array], float],
    first: Answers,
    second: Answers,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[tuple[float, float], float]:
    """Return the 95% interval of `metric` of the second minus that of the first, and a two-sided p of "no difference".

    The examples are drawn anew, with replacement, the same for both. The interval is the percentile one, and p the
    largest level at which such an interval holds 0: twice the smaller share of differences on either side of it, one
    counted more (Efron & Tibshirani 1993, §13.3 and §15.4). It is at least 2 / (resamples + 1).
    """
    rng = np.random.default_rng(seed)
    n = len(first.labels)
    values = np.empty(resamples)
    for i in range(resamples):
        drawn = rng.integers(0, n, n)
        labels = first.labels[drawn]
        values[i] = metric(labels, second.predictions[drawn]) - metric(labels, first.predictions[drawn])
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    rarer = min((values <= 0).sum(), (values >= 0).sum())
    return (float(low), float(high)), float(min(1.0, 2 * (rarer + 1) / (resamples + 1)))


def pair(task: Task, names: tuple[str, str], runs: tuple[Lines, Lines], split: str = "dev") -> Paired:
    """Compare the answers of two `runs`, the lines of their predictions.jsonl, to the examples of `split`.

    Raises:
        RequestError: the task has not one answer an example, the examples are not the same, or there are none.
    """
    if task.form not in ("texts", "choices"):
        raise RequestError(f"Paired tests need one right answer an example; {task.title} has several, or parts of one.")
    one, two = ([line for line in lines if line.get("split") == split] for lines in runs)
    if _examples(one) != _examples(two) or not one:
        raise RequestError(
            f"{names[0]} and {names[1]} were not measured on the same {split} examples ({len(one)} and "
            f"{len(two)}): no paired test. Measure both on the same data: bigs eval {task.name} --predictions FILE"
        )
    first, second = answers(task, one, split), answers(task, two, split)
    classes = task.labels is not None or task.form == "choices"
    metric = task.metrics[0]
    tests = []
    if classes:
        rights = [run.labels == run.predictions for run in (first, second)]
        sure, _ = paired_bootstrap(_share, first, second)
        shares = (float(rights[0].mean()), float(rights[1].mean()))
        tests.append(PairedTest("accuracy", "McNemar, exact", shares, sure, mcnemar(*rights)))
        counts = _of_classes(rights[0], rights[1], *names)
        apart = np.flatnonzero(first.predictions != second.predictions)
    else:
        errors = [np.abs(run.predictions - run.labels) for run in (first, second)]
        counts = _of_scores(errors[0], errors[1], *names)
        apart = np.flatnonzero(first.predictions != second.predictions)
        furthest = -np.abs(first.predictions - second.predictions)[apart]
        apart = apart[np.argsort(furthest, kind="stable")]
    if metric != "accuracy":
        sure, p = paired_bootstrap(METRICS[metric], first, second)
        values = [METRICS[metric](run.labels, run.predictions) for run in (first, second)]
        tests.append(PairedTest(metric, "paired bootstrap", (values[0], values[1]), sure, p))
    differing = tuple((one[i], two[i]) for i in apart)
    return Paired(task.title, names, tuple(tests), counts, differing)


def _examples(lines: Lines) -> list[dict[str, Any]]:
    """Return what was asked, without the answers."""
    return [{name: value for name, value in line.items() if name not in _ANSWERED} for line in lines]


def _share(labels: Array, predictions: Array) -> float:
    """Return the accuracy, of which a bootstrap needs thousands, without the checks that one deserves."""
    return float((labels == predictions).mean())


def _of_classes(first: Array, second: Array, first_name: str, second_name: str) -> dict[str, int]:
    return {
        "both right": int((first & second).sum()),
        f"only {first_name} right": int((first & ~second).sum()),
        f"only {second_name} right": int((~first & second).sum()),
        "both wrong": int((~first & ~second).sum()),
    }


def _of_scores(first: Array, second: Array, first_name: str, second_name: str) -> dict[str, int]:
    return {
        f"{first_name} nearer": int((first < second).sum()),
        f"{second_name} nearer": int((second < first).sum()),
        "as near": int((first == second).sum()),
    }
