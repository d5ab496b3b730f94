"""Several runs that differ in their seed, as one result: mean, spread, best, and a confidence interval."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.core.metric_names import by_split, with_splits
from bigs_cli.evaluation.baselines import scores_of
from bigs_cli.evaluation.bootstrap import intervals
from bigs_cli.evaluation.predictions import read_predictions
from bigs_cli.tasks.task import Task

SUMMARY = "seeds.json"
"""The file, beside the runs, that has what `summarize` says of them."""


def summarize(task: Task, runs: Sequence[RunFolder], resume: str) -> dict[str, Any]:
    """Return, for every metric, mean, sample standard deviation (0 of one run), best, and values by seed.

    Metrics of the dev set itself also have the 95% bootstrap `interval` of their mean, and those of classes their
    majority `baseline`. `best` names the run that did best on the first metric, `notes` the runs whose predictions are
    all the same. `resume` is the command that trains those which are not there.

    Raises:
        RequestError: a run is not finished, lacks a metric, or its predictions are absent or garbled.
    """
    results = [run.results() for run in runs]
    predictions = [read_predictions(run.predictions_file) for run in runs]
    confidence_intervals = intervals(task, predictions)
    splits = [by_split(result) for result in results]
    scores = [scores_of(task, of_run, lines) for of_run, lines in zip(splits, predictions, strict=True)]
    summary: dict[str, dict[str, Any]] = {}
    names = {(split, name): None for split, metrics in splits[0].items() for name in metrics}
    for split, name in {("dev", task.metrics[0]): None} | names:
        found = [of_run.get(split, {}).get(name) for of_run in splits]
        if None in found:
            raise RequestError(
                f"{runs[found.index(None)].results_file} has no {name}, which the figures of all seeds are made "
                f"from. Remove the folder {runs[found.index(None)].path}, and train that seed again with `{resume}`."
            )
        values = [float(value) for value in found if value is not None]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        figures = {"mean": statistics.fmean(values), "std": spread, "best": max(values), "values": values}
        if split == "dev" and name in confidence_intervals:
            figures["interval"] = list(confidence_intervals[name])
        baseline = scores[0].baselines.get(split)
        if baseline is not None and name in baseline.metrics:
            figures["baseline"] = baseline.metrics[name]
        summary.setdefault(split, {})[name] = figures
    first = summary["dev"][task.metrics[0]]
    notes = [f"{run.path.name}: {note}" for run, of_run in zip(runs, scores, strict=True) for note in of_run.notes]
    return {
        "kind": "seeds",
        "task": task.name,
        "seeds": [result.get("seed") for result in results],
        **with_splits(summary),
        "notes": notes,
        "best": runs[first["values"].index(first["best"])].path.name,
        "seconds": round(sum(result["seconds"] for result in results), 1),
    }
