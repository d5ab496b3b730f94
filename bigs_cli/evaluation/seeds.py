"""Several runs that differ in their seed, as one result: mean, spread, best, and how sure the dev set makes it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from bigs_cli.checkpoint.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.bootstrap import intervals
from bigs_cli.evaluation.predictions import read_predictions
from bigs_cli.tasks.task import Task

SUMMARY = "seeds.json"
"""The file, beside the runs, that has what `summarize` says of them."""


def summarize(task: Task, runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Return, for every metric, mean, sample standard deviation (0 of one run), best, and values by seed.

    Metrics of the dev set itself also have the 95% bootstrap `interval` of their mean. `best` names the run that did
    best on the first metric.

    Raises:
        RequestError: a run is not finished, lacks a metric, or its predictions are absent or garbled.
    """
    results = [run.results() for run in runs]
    sure = intervals(task, [read_predictions(run.predictions_file) for run in runs])
    metrics: dict[str, Any] = {}
    for name in dict.fromkeys([task.metrics[0], *results[0]["metrics"]]):
        found = [result["metrics"].get(name) for result in results]
        if None in found:
            raise RequestError(
                f"{runs[found.index(None)].results_file} has no {name}, which the figures of all seeds are made "
                f"from. Remove the folder {runs[found.index(None)].path}, and train that seed again with --resume."
            )
        values = [float(value) for value in found]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        metrics[name] = {"mean": statistics.fmean(values), "std": spread, "best": max(values), "values": values}
        if name in sure:
            metrics[name]["interval"] = list(sure[name])
    first = metrics[task.metrics[0]]
    return {
        "kind": "seeds",
        "task": task.name,
        "seeds": [result.get("seed") for result in results],
        "metrics": metrics,
        "best": runs[first["values"].index(first["best"])].path.name,
        "seconds": round(sum(result["seconds"] for result in results), 1),
    }
