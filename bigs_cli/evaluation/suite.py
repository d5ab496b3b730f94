"""The GLUE suite as one result: what each task's run ended with, beside the published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.core.metric_names import by_split
from bigs_cli.evaluation.baselines import scores_of
from bigs_cli.evaluation.bootstrap import intervals
from bigs_cli.evaluation.predictions import read_predictions
from bigs_cli.evaluation.seeds import SUMMARY
from bigs_cli.reporting.suite import Line
from bigs_cli.tasks import TASKS
from bigs_cli.tasks.task import Task

# MNLI before the tasks that start from it.
TASK_ORDER = ("cola", "sst2", "mnli", "mrpc", "stsb", "rte", "qqp", "qnli", "wnli")


class _Figures(BaseModel):
    """A metric over several seeds."""

    mean: float
    best: float
    std: float | None = None
    interval: tuple[float, float] | None = None
    baseline: float | None = None


class _Seeds(BaseModel):
    """What is read of seeds.json."""

    best: Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=60)]  # the name of a folder
    seeds: list[int]
    metrics: dict[str, _Figures]
    splits: dict[str, dict[str, _Figures]] = {}
    notes: list[str] = []


def best_run(folder: Path) -> RunFolder | None:
    """Return the finished run in `folder`, or the best of the seeds' in it; None if there is none."""
    if RunFolder(folder).finished:
        return RunFolder(folder)
    summary = _read_seeds(folder)
    if summary is None:
        return None
    run = RunFolder(folder / summary.best)
    return run if run.finished else None


def suite_runs(root: Path) -> dict[str, RunFolder]:
    """Return, for every task with a finished run in `root`, the (best) run.

    Raises:
        RequestError: there is none.
    """
    found = {name: run for name in TASK_ORDER if (run := best_run(root / name)) is not None}
    if not found:
        raise RequestError(
            f"There is no finished GLUE run in {root}. Make some: bigs finetune glue --from MODEL --run {root}"
        )
    return found


def suite_lines(root: Path) -> list[Line]:
    """Return the figures of all runs in `root`, those of several seeds as their mean.

    Raises:
        RequestError: there is no finished run, or a file of one is garbled.
    """
    return [line for name, run in suite_runs(root).items() for line in _lines(TASKS[name], root / name, run)]


def _lines(task: Task, folder: Path, run: RunFolder) -> list[Line]:
    if run.path == folder:
        predictions = read_predictions(run.predictions_file)
        scores = scores_of(task, by_split(run.results()), predictions)
        confidence_intervals = intervals(task, [predictions])
        splits = {
            split: {
                name: _Figures(
                    mean=value,
                    best=value,
                    interval=confidence_intervals.get(name) if split == "dev" else None,
                    baseline=scores.baselines[split].metrics.get(name) if split in scores.baselines else None,
                )
                for name, value in metrics.items()
                if value is not None
            }
            for split, metrics in scores.splits.items()
        }
        seeds, notes = 1, list(scores.notes)
    else:
        summary = _read_seeds(folder)
        assert summary is not None
        splits, seeds, notes = by_split(dict(summary)), len(summary.seeds), summary.notes
    lines = []
    for split, metrics in splits.items():
        for name, figures in metrics.items():
            own = [row for row in task.published if split == "dev" and name in row.scores]
            published = {row.setting: row.scores[name] / 100 for row in own}
            lines.append(
                Line(
                    task=task.title,
                    split=split,
                    metric=name,
                    mean=figures.mean,
                    std=figures.std if seeds > 1 else None,
                    best=figures.best,
                    seeds=seeds,
                    interval=figures.interval,
                    baseline=figures.baseline,
                    published=published,
                    notes=tuple(notes),
                )
            )
    return lines


def _read_seeds(folder: Path) -> _Seeds | None:
    """Return what `summarize` wrote of several seeds' runs; None if it is not there, or is damaged."""
    try:
        return _Seeds.model_validate_json((folder / SUMMARY).read_bytes())
    except (OSError, ValidationError):
        return None
