"""The GLUE suite's figures as a table for a person, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bigs_cli.core.files import to_json
from bigs_cli.core.metric_names import metric_in_words, percent, split_in_words
from bigs_cli.reporting.console import Format, table
from bigs_cli.reporting.scores import BASELINE

SETTINGS = ("512", "512 freeze", "128")
_HEADERS = ("task", "metric", "this", "95% interval", BASELINE, *(f"published {name}" for name in SETTINGS))
_WORDS = 2  # of the columns hold words, the others numbers


@dataclass(frozen=True, kw_only=True)
class Line:
    """One metric of one split of one task; figures are fractions, published ones too."""

    task: str
    split: str
    metric: str
    mean: float
    std: float | None
    """Sample standard deviation over the seeds; None for a single run."""
    best: float
    seeds: int
    interval: tuple[float, float] | None
    """95% bootstrap interval over the dev set."""
    baseline: float | None
    """What the most frequent label as the only answer scores; None for scores."""
    published: dict[str, float]
    """Setting → figure, where there is one."""
    notes: tuple[str, ...] = ()
    """What is to be said of the task's runs: that one gives all examples the same answer."""

    @property
    def differences(self) -> dict[str, float]:
        """This mean minus each published figure."""
        return {setting: self.mean - value for setting, value in self.published.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "task": self.task,
            "split": self.split,
            "metric": self.metric,
            "mean": self.mean,
            "std": self.std,
            "best": self.best,
            "seeds": self.seeds,
            "interval": self.interval,
            "baseline": self.baseline,
            "published": self.published,
            "difference": self.differences,
        }


def suite_table(lines: Sequence[Line], title: str) -> Table:
    """Return a table in percent; behind each published figure is this one's difference from it."""
    made = table(title, *_HEADERS, right=_HEADERS[_WORDS:])
    for line in lines:
        made.add_row(*_cells(line))
    return made


def suite_notes(lines: Sequence[Line]) -> list[str]:
    """Return what is to be said of the runs of each task, once."""
    return list(dict.fromkeys(f"{line.task}: {note}" for line in lines for note in line.notes))


def suite_text(lines: Sequence[Line], form: Format) -> str:
    """Return the figures as Markdown (percent, as in the table), CSV or JSON (fractions)."""
    if form == "json":
        return to_json([line.as_dict() for line in lines], indent=2)
    if form == "markdown":
        rows = [_HEADERS, ["---"] * _WORDS + ["---:"] * (len(_HEADERS) - _WORDS), *map(_cells, lines)]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    names = [name for setting in SETTINGS for name in (f"published {setting}", f"difference {setting}")]
    writer.writerow(["task", "split", "metric", "mean", "std", "best", "seeds", "low", "high", "baseline", *names])
    for line in lines:
        low, high = line.interval or ("", "")
        further = [figures.get(setting, "") for setting in SETTINGS for figures in (line.published, line.differences)]
        own = [line.task, line.split, line.metric, line.mean, line.std, line.best, line.seeds, low, high, line.baseline]
        writer.writerow([*own, *further])
    return made.getvalue().removesuffix("\n")


def _cells(line: Line) -> list[str]:
    mean = percent(line.mean, 1) if line.std is None else f"{percent(line.mean, 1)} ± {percent(line.std, 1)}"
    interval = "–" if line.interval is None else " to ".join(percent(edge, 1) for edge in line.interval)
    published = [
        f"{percent(line.published[name], 1)} ({100 * line.differences[name]:+.1f})" if name in line.published else "–"
        for name in SETTINGS
    ]
    task = line.task if line.split == "dev" else f"{line.task} {split_in_words(line.split).removeprefix('dev ')}"
    return [task, metric_in_words(line.metric), mean, interval, percent(line.baseline, 1), *published]
