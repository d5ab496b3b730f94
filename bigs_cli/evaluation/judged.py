"""Predictions judged one by one (`Judged`), of every form of task: what bootstraps and paired tests draw from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.entities import entity_counts, scores_of_counts
from bigs_cli.evaluation.metrics import METRICS
from bigs_cli.evaluation.predictions import Answers, answers, of_split
from bigs_cli.evaluation.squad import answer_scores
from bigs_cli.tasks.task import Task

Array = np.ndarray[Any, Any]
Metric = Callable[[Array], float]
Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Judged:
    """The answers to `count` examples.

    `metrics` take the places `[m]` of examples, any of them any number of times, and return the fraction that these
    alone would give. `right` `[n]` bool says which examples are answered wholly right; None where answers are scores.
    """

    count: int
    metrics: Mapping[str, Metric]
    right: Array | None


def judge(task: Task, lines: Lines, split: str = "dev") -> Judged:
    """Judge the lines of `split` of a predictions.jsonl.

    Raises:
        RequestError: a line is not one of this task.
    """
    match task.form:
        case "texts" | "choices":
            return _classes_or_scores(task, answers(task, lines, split))
        case "tagged":
            return _sentences(task, of_split(lines, split))
        case "questions":
            return _questions(task, of_split(lines, split))


def _classes_or_scores(task: Task, both: Answers) -> Judged:
    def metric(name: str) -> Metric:
        return lambda places: METRICS[name](both.labels[places], both.predictions[places])

    metrics = {name: metric(name) for name in task.metrics}
    if task.form == "texts" and task.labels is None:
        return Judged(len(both.labels), metrics, None)
    right = both.labels == both.predictions
    # Thousands are needed of it, so without the checks that a single one deserves.
    return Judged(len(right), {**metrics, "accuracy": _mean(right)}, right)


def _sentences(task: Task, lines: Lines) -> Judged:
    try:
        counts = np.array([entity_counts(line["label"], line["prediction"]) for line in lines]).reshape(-1, 3)
        hits = [[a == b for a, b in zip(line["label"], line["prediction"], strict=True)] for line in lines]
        words = np.array([(sum(sentence), len(sentence)) for sentence in hits]).reshape(-1, 2)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _strange(task, error) from error

    def of_entities(name: str) -> Metric:
        return lambda places: scores_of_counts(*counts[places].sum(0).tolist())[name]

    def accuracy(places: Array) -> float:
        hit, there = words[places].sum(0).tolist()
        return hit / max(there, 1)

    metrics: dict[str, Metric] = {name: of_entities(name) for name in ("f1", "precision", "recall")}
    return Judged(len(lines), {**metrics, "accuracy": accuracy}, words[:, 0] == words[:, 1])


def _questions(task: Task, lines: Lines) -> Judged:
    try:
        both = [answer_scores(line["prediction"], line["label"], task.no_answer) for line in lines]
    except (KeyError, TypeError, AttributeError) as error:
        raise _strange(task, error) from error
    f1, exact = np.array(both).reshape(-1, 2).T
    return Judged(len(lines), {"f1": _mean(f1), "exact": _mean(exact)}, exact == 1.0)


def _mean(values: Array) -> Metric:
    return lambda places: float(values[places].mean())


def _strange(task: Task, error: Exception) -> RequestError:
    return RequestError(f"These predictions are not those of {task.title}: a line has no or another answer ({error}).")
