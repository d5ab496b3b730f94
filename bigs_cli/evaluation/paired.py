"""Paired significance tests of two models on the same examples of a dev set.

They detect much smaller differences than two separate confidence intervals. They do not account for the variation over
seeds; train with several seeds for that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.bootstrap import paired_bootstrap
from bigs_cli.evaluation.predictions import of_split
from bigs_cli.reporting.paired import Paired, PairedTest
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import type_of
from bigs_cli.tasks.types.base import Lines, mean_of

Array = np.ndarray[Any, Any]

_PREDICTION_KEYS = ("prediction", "scores", "nbest", "null_score")


def mcnemar(first_right: Array, second_right: Array) -> float:
    """Return the two-sided p-value of McNemar's exact test; the arguments `[n]` bool say which examples are correct.

    If two models are equally good, each is the correct one with probability ½ where only one is correct. This is a
    binomial test on those examples (McNemar 1947; Dietterich 1998, §3); p is 1.0 if there are none.
    """
    from scipy.stats import binomtest

    first, second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def pair(task: Task, names: tuple[str, str], runs: tuple[Lines, Lines], split: str = "dev") -> Paired:
    """Compare the predictions of two `runs`, the lines of their predictions.jsonl, on the examples of `split`.

    McNemar's test counts an example as correct if all of it is: the class, the ending, every tag of a sentence, or an
    exact match of the answer.

    Raises:
        RequestError: the examples differ, there are none, or they are of another task.
    """
    one, two = (of_split(lines, split) for lines in runs)
    if _examples(one) != _examples(two) or not one:
        raise RequestError(
            f"{names[0]} and {names[1]} were not evaluated on the same {split} examples ({len(one)} and "
            f"{len(two)}): no paired test. Evaluate both on the same data: bigs eval {task.name} --predictions FILE"
        )
    task_type = type_of(task)
    first, second = task_type.example_scores(one), task_type.example_scores(two)
    metric, tests = task.metrics[0], []
    differing = np.array([a["prediction"] != b["prediction"] for a, b in zip(one, two, strict=True)]).nonzero()[0]
    if first.right is not None and second.right is not None:
        name = task_type.right_name
        interval, _ = paired_bootstrap(mean_of(first.right), mean_of(second.right), first.count)
        fractions = (float(first.right.mean()), float(second.right.mean()))
        tests.append(PairedTest(name, "McNemar, exact", fractions, interval, mcnemar(first.right, second.right)))
        counts = _count_correct(first.right, second.right, names)
    else:
        name = ""
        pairs = [task_type.label_pairs(lines) for lines in (one, two)]
        (labels, first_values), (_, second_values) = (each for each in pairs if each is not None)
        counts = _count_closer(np.abs(first_values - labels), np.abs(second_values - labels), names)
        distances = np.abs(first_values - second_values)[differing]
        differing = differing[np.argsort(-distances, kind="stable")]
    if metric != name:
        metrics = first.metrics[metric], second.metrics[metric]
        interval, p = paired_bootstrap(*metrics, first.count)
        all_rows = np.arange(first.count)
        values = metrics[0](all_rows), metrics[1](all_rows)
        tests.append(PairedTest(metric, "paired bootstrap", values, interval, p))
    return Paired(task.title, names, tuple(tests), counts, tuple((one[i], two[i]) for i in differing))


def _examples(lines: Lines) -> list[dict[str, Any]]:
    """Return the inputs and labels of lines, without the predictions."""
    return [{name: value for name, value in line.items() if name not in _PREDICTION_KEYS} for line in lines]


def _count_correct(first: Array, second: Array, names: tuple[str, str]) -> dict[str, int]:
    return {
        "both correct": int((first & second).sum()),
        f"only {names[0]} correct": int((first & ~second).sum()),
        f"only {names[1]} correct": int((~first & second).sum()),
        "both wrong": int((~first & ~second).sum()),
    }


def _count_closer(first: Array, second: Array, names: tuple[str, str]) -> dict[str, int]:
    return {
        f"{names[0]} closer": int((first < second).sum()),
        f"{names[1]} closer": int((second < first).sum()),
        "equally close": int((first == second).sum()),
    }
