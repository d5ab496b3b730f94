"""The summary of runs with several seeds: mean, standard deviation, best, and a confidence interval."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.core.metric_names import by_split, with_splits
from bigs_cli.evaluation.bootstrap import intervals
from bigs_cli.evaluation.predictions import read_predictions, scores_of
from bigs_cli.tasks.task import Task

SUMMARY = "seeds.json"
"""The file beside the run folders with the result of `summarize`."""


def summarize(task: Task, runs: Sequence[RunFolder], resume: str) -> dict[str, Any]:
    """Return the mean, sample standard deviation (0 for one run), best value and values by seed of every metric.

    Dev metrics also have the 95% bootstrap `interval` of their mean and, where there is one, the majority `baseline`.
    `best` names the run with the best first metric, and `notes` lists runs with constant predictions. `resume` is the
    command that trains missing seeds.

    Raises:
        RequestError: a run is not finished, lacks a metric, or its predictions are missing or invalid; or the runs were
            trained on different data.
    """
    results = [run.results() for run in runs]
    for run, result in zip(runs, results, strict=True):
        if changed := _differences(results[0], result):
            raise RequestError(
                f"{run.path} was not trained on the data of {runs[0].path} (different: {', '.join(changed)}). Remove "
                f"the folders of the seeds with the old data, and train these seeds again with `{resume}`."
            )
    predictions = [read_predictions(run.predictions_file) for run in runs]
    confidence_intervals = intervals(task, predictions)
    splits = [by_split(result) for result in results]
    scores = [scores_of(task, metrics, lines) for metrics, lines in zip(splits, predictions, strict=True)]
    summary: dict[str, dict[str, Any]] = {}
    names = {(split, name): None for split, metrics in splits[0].items() for name in metrics}
    for split, name in {("dev", task.metrics[0]): None} | names:
        by_run = [metrics.get(split, {}).get(name) for metrics in splits]
        if None in by_run:
            run = runs[by_run.index(None)]
            raise RequestError(
                f"{run.results_file} has no {name}, which the summary of the seeds needs. Remove the folder {run.path} "
                f"and train that seed again with `{resume}`."
            )
        values = [float(value) for value in by_run if value is not None]
        std = statistics.stdev(values) if len(values) > 1 else 0.0
        figures = {"mean": statistics.fmean(values), "std": std, "best": max(values), "values": values}
        if split == "dev" and name in confidence_intervals:
            figures["interval"] = list(confidence_intervals[name])
        baseline = scores[0].baselines.get(split)
        if baseline is not None and name in baseline.metrics:
            figures["baseline"] = baseline.metrics[name]
        summary.setdefault(split, {})[name] = figures
    first = summary["dev"][task.metrics[0]]
    notes = [f"{run.path.name}: {note}" for run, each in zip(runs, scores, strict=True) for note in each.notes]
    return {
        "kind": "seeds",
        "task": task.name,
        "seeds": [result.get("seed") for result in results],
        **with_splits(summary),
        "notes": notes,
        "best": runs[first["values"].index(first["best"])].path.name,
        "seconds": round(sum(result["seconds"] for result in results), 1),
    }


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return which data of two results differ. With max_train_examples, each seed has its own training examples."""
    own = one.get("recipe", {}).get("max_train_examples") is not None
    compared = one.get("data", {}).keys() - {"path"} - ({"train"} if own else set())
    return sorted(name for name in compared if other.get("data", {}).get(name) != one["data"][name])
