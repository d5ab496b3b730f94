"""Two models on the same examples: is one better, or is it the luck of this dev set?

Both tests look only at where the two differ, so they see much smaller differences than two separate intervals would.
Neither speaks of other seeds: for that, train with several.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.bootstrap import paired_bootstrap
from bigs_cli.evaluation.judged import Lines, Metric, judge
from bigs_cli.evaluation.predictions import answers, of_split
from bigs_cli.reporting.paired import Paired, PairedTest
from bigs_cli.tasks.task import Task

Array = np.ndarray[Any, Any]

_ANSWERED = ("prediction", "scores", "nbest", "null_score")
_RIGHT = {"texts": "accuracy", "choices": "accuracy", "tagged": "whole sentences", "questions": "exact"}


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
    first, second = judge(task, one, split), judge(task, two, split)
    metric, tests = task.metrics[0], []
    apart = np.array([a["prediction"] != b["prediction"] for a, b in zip(one, two, strict=True)]).nonzero()[0]
    if first.right is not None and second.right is not None:
        name = _RIGHT[task.form]
        sure, _ = paired_bootstrap(_share(first.right), _share(second.right), first.count)
        shares = (float(first.right.mean()), float(second.right.mean()))
        tests.append(PairedTest(name, "McNemar, exact", shares, sure, mcnemar(first.right, second.right)))
        counts = _of_rights(first.right, second.right, *names)
    else:
        name = ""
        both = [answers(task, lines, split) for lines in (one, two)]
        errors = [np.abs(each.predictions - each.labels) for each in both]
        counts = _of_scores(errors[0], errors[1], *names)
        furthest = -np.abs(both[0].predictions - both[1].predictions)[apart]
        apart = apart[np.argsort(furthest, kind="stable")]
    if metric != name:
        of_first, of_second = first.metrics[metric], second.metrics[metric]
        sure, p = paired_bootstrap(of_first, of_second, first.count)
        every = np.arange(first.count)
        tests.append(PairedTest(metric, "paired bootstrap", (of_first(every), of_second(every)), sure, p))
    differing = tuple((one[i], two[i]) for i in apart)
    return Paired(task.title, names, tuple(tests), counts, differing)


def _examples(lines: Lines) -> list[dict[str, Any]]:
    """Return what was asked, without the answers."""
    return [{name: value for name, value in line.items() if name not in _ANSWERED} for line in lines]


def _share(right: Array) -> Metric:
    return lambda places: float(right[places].mean())


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
