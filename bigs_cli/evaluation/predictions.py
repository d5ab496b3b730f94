"""predictions.jsonl, what a run answered to every dev example, read back; and what can be told from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.metrics import METRICS
from bigs_cli.tasks.task import Task

Array = np.ndarray[Any, Any]

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Answers:
    """Labels and predictions `[n]` of one split: class ids in the task's order, or scores."""

    labels: Array
    predictions: Array


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a predictions file.

    Raises:
        RequestError: it is not there, or a line is no JSON object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise RequestError(f"{path} is not JSON lines ({error}).") from error
    if not all(isinstance(line, dict) and "prediction" in line for line in lines):
        raise RequestError(f"{path} does not hold predictions: a line has none.")
    return lines


def answers(task: Task, lines: Sequence[Mapping[str, Any]], split: str = "dev") -> Answers:
    """Return labels and predictions of the lines of `split`; `task` has classes or scores, one an example.

    Raises:
        RequestError: a line has no label, or names none of the task's classes.
    """
    chosen = [line for line in lines if line.get("split") == split]
    places = {name: i for i, name in enumerate(task.labels or ())}
    try:
        if task.labels is None:
            pairs = [(float(line["label"]), float(line["prediction"])) for line in chosen]
        else:
            pairs = [(places[line["label"]], places[line["prediction"]]) for line in chosen]
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"These predictions are not those of {task.title}: {error} is no label of it.") from error
    both = np.array(pairs, task.label_dtype).reshape(-1, 2)
    return Answers(both[:, 0], both[:, 1])


def bootstrap(
    metric: Callable[[Array, Array], float], runs: Sequence[Answers], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap's 95% interval of a metric, or of its mean over runs on the same examples.

    The examples are drawn anew, with replacement, the same for all runs (Efron & Tibshirani 1993, §13): what the figure
    might have been with another dev set of this size. It does not speak of other seeds.
    """
    rng = np.random.default_rng(seed)
    n = len(runs[0].labels)
    values = np.empty(resamples)
    for i in range(resamples):
        drawn = rng.integers(0, n, n)
        values[i] = np.mean([metric(run.labels[drawn], run.predictions[drawn]) for run in runs])
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def intervals(task: Task, runs: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, tuple[float, float]]:
    """Return the bootstrap interval of every metric of the dev set, from the predictions of one or more runs."""
    of_runs = [answers(task, lines) for lines in runs]
    return {name: bootstrap(METRICS[name], of_runs) for name in task.metrics}
