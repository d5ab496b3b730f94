"""The results of a GLUE suite beside the published ones, as a table, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError
from rich.table import Table

from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import to_json
from bigs_cli.core.metric_names import by_split, metric_in_words, percent, split_in_words
from bigs_cli.evaluation.bootstrap import intervals
from bigs_cli.evaluation.predictions import read_predictions, scores_of
from bigs_cli.evaluation.seeds import SUMMARY
from bigs_cli.reporting.console import Format, markdown_table, table
from bigs_cli.reporting.scores import BASELINE
from bigs_cli.tasks import TASKS
from bigs_cli.tasks.task import Task

# MNLI precedes the tasks that start from it.
TASK_ORDER = ("cola", "sst2", "mnli", "mrpc", "stsb", "rte", "qqp", "qnli", "wnli")


SETTINGS = ("512", "512 freeze", "128")
_HEADERS = ("task", "metric", "this", "95% interval", BASELINE, *(f"published {name}" for name in SETTINGS))
_TEXT_COLUMNS = 2  # the first columns; the others hold numbers


@dataclass(frozen=True, kw_only=True)
class Line:
    """One metric of one split of one task; all scores are fractions, including the published ones."""

    task: str
    split: str
    metric: str
    mean: float
    std: float | None
    """Sample standard deviation over the seeds; None for a single run."""
    best: float
    seeds: int
    interval: tuple[float, float] | None
    """The 95% bootstrap interval over the dev set."""
    baseline: float | None
    """The score of always predicting the most frequent label; None for regression."""
    published: dict[str, float]
    """Setting → published score."""
    notes: tuple[str, ...] = ()
    """Sentences about the runs of the task whose predictions are all the same."""

    @property
    def differences(self) -> dict[str, float]:
        """The mean minus each published score."""
        return {setting: self.mean - value for setting, value in self.published.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return the object for JSON."""
        values = {**asdict(self), "difference": self.differences}
        del values["notes"]  # They are printed on stderr.
        return values


class _Figures(BaseModel):
    """A metric in seeds.json."""

    mean: float
    best: float
    std: float | None = None
    interval: tuple[float, float] | None = None
    baseline: float | None = None


class _Seeds(BaseModel):
    """The fields of seeds.json that are read."""

    best: Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=60)]  # the name of a folder
    seeds: list[int]
    metrics: dict[str, _Figures]
    splits: dict[str, dict[str, _Figures]] = {}
    notes: list[str] = []


def best_run(folder: Path) -> RunFolder | None:
    """Return the finished run in `folder`, or the best run of several seeds in it; None if there is none."""
    if RunFolder(folder).finished:
        return RunFolder(folder)
    summary = _read_seeds(folder)
    if summary is None:
        return None
    run = RunFolder(folder / summary.best)
    return run if run.finished else None


def suite_runs(root: Path) -> dict[str, RunFolder]:
    """Return the finished run, or the best of several seeds, of every task in `root`.

    Raises:
        RequestError: there is no finished run.
    """
    found = {name: run for name in TASK_ORDER if (run := best_run(root / name)) is not None}
    if not found:
        raise RequestError(
            f"There is no finished GLUE run in {root}. Train some: bigs finetune glue --from MODEL --run {root}"
        )
    return found


def suite_lines(root: Path) -> list[Line]:
    """Return the scores of all runs in `root`; for several seeds, their mean.

    Raises:
        RequestError: there is no finished run, or a file of a run is invalid.
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
            rows = task.published if split == "dev" else ()
            published = {row.setting: row.scores[name] / 100 for row in rows if name in row.scores}
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
    """Return the summary in seeds.json; None if the file is missing or invalid."""
    try:
        return _Seeds.model_validate_json((folder / SUMMARY).read_bytes())
    except (OSError, ValidationError):
        return None


def suite_table(lines: Sequence[Line], title: str) -> Table:
    """Return a table in percent; the difference from each published score is in parentheses."""
    result = table(title, *_HEADERS, right=_HEADERS[_TEXT_COLUMNS:])
    for line in lines:
        result.add_row(*_cells(line))
    return result


def suite_notes(lines: Sequence[Line]) -> list[str]:
    """Return the notes on the runs of each task, without duplicates."""
    return list(dict.fromkeys(f"{line.task}: {note}" for line in lines for note in line.notes))


def suite_text(lines: Sequence[Line], form: Format) -> str:
    """Return the scores as Markdown (percent), CSV or JSON (fractions)."""
    if form == "json":
        return to_json([line.as_dict() for line in lines], indent=2)
    if form == "markdown":
        return markdown_table(_HEADERS, map(_cells, lines), _TEXT_COLUMNS)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [name for setting in SETTINGS for name in (f"published {setting}", f"difference {setting}")]
    writer.writerow(["task", "split", "metric", "mean", "std", "best", "seeds", "low", "high", "baseline", *names])
    for line in lines:
        low, high = line.interval or ("", "")
        published = [scores.get(setting, "") for setting in SETTINGS for scores in (line.published, line.differences)]
        measured = [line.mean, line.std, line.best, line.seeds, low, high, line.baseline]
        writer.writerow([line.task, line.split, line.metric, *measured, *published])
    return text.getvalue().removesuffix("\n")


def _cells(line: Line) -> list[str]:
    mean = percent(line.mean, 1) if line.std is None else f"{percent(line.mean, 1)} ± {percent(line.std, 1)}"
    interval = "–" if line.interval is None else " to ".join(percent(edge, 1) for edge in line.interval)
    published = [
        f"{percent(line.published[name], 1)} ({100 * line.differences[name]:+.1f})" if name in line.published else "–"
        for name in SETTINGS
    ]
    task = line.task if line.split == "dev" else f"{line.task} {split_in_words(line.split).removeprefix('dev ')}"
    return [task, metric_in_words(line.metric), mean, interval, percent(line.baseline, 1), *published]
