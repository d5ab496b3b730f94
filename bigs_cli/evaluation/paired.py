"""Paired tests of two models on the same examples of a dev set.

They look only at where the two differ, so they detect much smaller differences than two separate intervals would.
They say nothing about other seeds: for that, train with several.
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

_ANSWERED = ("prediction", "scores", "nbest", "null_score")


def mcnemar(first_right: Array, second_right: Array) -> float:
    """Return the two-sided p of McNemar's exact test of two models' rights and wrongs, each `[n]` bool.

    Where just one of two equally good models is right, it is either with probability ½: a binomial test of those
    examples (McNemar 1947; Dietterich 1998, §3). 1.0 where there are none.
    """
    from scipy.stats import binomtest

    first, second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def pair(task: Task, names: tuple[str, str], runs: tuple[Lines, Lines], split: str = "dev") -> Paired:
    """Compare the answers of two `runs`, the lines of their predictions.jsonl, to the examples of `split`.

    McNemar's test asks for examples answered wholly right: a class, an ending, every tag of a sentence, an exact match.

    Raises:
        RequestError: the examples are not the same, there are none, or they are not those of the task.
    """
    one, two = (of_split(lines, split) for lines in runs)
    if _examples(one) != _examples(two) or not one:
        raise RequestError(
            f"{names[0]} and {names[1]} were not measured on the same {split} examples ({len(one)} and "
            f"{len(two)}): no paired test. Measure both on the same data: bigs eval {task.name} --predictions FILE"
        )
    task_type = type_of(task)
    first, second = task_type.example_scores(one), task_type.example_scores(two)
    metric, tests = task.metrics[0], []
    apart = np.array([a["prediction"] != b["prediction"] for a, b in zip(one, two, strict=True)]).nonzero()[0]
    if first.right is not None and second.right is not None:
        name = task_type.right_name
        interval, _ = paired_bootstrap(mean_of(first.right), mean_of(second.right), first.count)
        shares = (float(first.right.mean()), float(second.right.mean()))
        tests.append(PairedTest(name, "McNemar, exact", shares, interval, mcnemar(first.right, second.right)))
        counts = _of_rights(first.right, second.right, *names)
    else:
        name = ""
        pairs = [task_type.label_pairs(lines) for lines in (one, two)]
        (labels, first_values), (_, second_values) = (each for each in pairs if each is not None)
        counts = _of_scores(np.abs(first_values - labels), np.abs(second_values - labels), *names)
        furthest = -np.abs(first_values - second_values)[apart]
        apart = apart[np.argsort(furthest, kind="stable")]
    if metric != name:
        of_first, of_second = first.metrics[metric], second.metrics[metric]
        interval, p = paired_bootstrap(of_first, of_second, first.count)
        every = np.arange(first.count)
        tests.append(PairedTest(metric, "paired bootstrap", (of_first(every), of_second(every)), interval, p))
    differing = tuple((one[i], two[i]) for i in apart)
    return Paired(task.title, names, tuple(tests), counts, differing)


def _examples(lines: Lines) -> list[dict[str, Any]]:
    """Return the inputs and labels of lines, without predictions."""
    return [{name: value for name, value in line.items() if name not in _ANSWERED} for line in lines]


def _of_rights(first: Array, second: Array, first_name: str, second_name: str) -> dict[str, int]:
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
