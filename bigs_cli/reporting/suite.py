"""The GLUE suite's figures as a table for a person, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bigs_cli.core.files import to_json
from bigs_cli.reporting.console import Format, table

SETTINGS = ("512", "512 freeze", "128")
_HEADERS = ("task", "metric", "this", "95% interval", *(f"published {name}" for name in SETTINGS))


@dataclass(frozen=True)
class Line:
    """One metric of one task; figures are fractions, published ones too."""

    task: str
    metric: str
    mean: float
    std: float | None
    """Sample standard deviation over the seeds; None for a single run."""
    best: float
    seeds: int
    interval: tuple[float, float] | None
    """95% bootstrap interval over the dev set."""
    published: dict[str, float]
    """Setting → figure, where there is one."""

    @property
    def differences(self) -> dict[str, float]:
        """This mean minus each published figure."""
        return {setting: self.mean - value for setting, value in self.published.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "task": self.task,
            "metric": self.metric,
            "mean": self.mean,
            "std": self.std,
            "best": self.best,
            "seeds": self.seeds,
            "interval": self.interval,
            "published": self.published,
            "difference": self.differences,
        }


def suite_table(lines: Sequence[Line], title: str) -> Table:
    """Return a table in percent; behind each published figure is this one's difference from it."""
    made = table(title, *_HEADERS, right=_HEADERS[2:])
    for line in lines:
        made.add_row(*_cells(line))
    return made


def suite_text(lines: Sequence[Line], form: Format) -> str:
    """Return the figures as Markdown (percent, as in the table), CSV or JSON (fractions)."""
    if form == "json":
        return to_json([line.as_dict() for line in lines], indent=2)
    if form == "markdown":
        rows = [_HEADERS, ["---"] * 2 + ["---:"] * (len(_HEADERS) - 2), *map(_cells, lines)]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    names = [name for setting in SETTINGS for name in (f"published {setting}", f"difference {setting}")]
    writer.writerow(["task", "metric", "mean", "std", "best", "seeds", "low", "high", *names])
    for line in lines:
        low, high = line.interval or ("", "")
        further = [figures.get(setting, "") for setting in SETTINGS for figures in (line.published, line.differences)]
        writer.writerow([line.task, line.metric, line.mean, line.std, line.best, line.seeds, low, high, *further])
    return made.getvalue().removesuffix("\n")


def _cells(line: Line) -> list[str]:
    mean = f"{100 * line.mean:.1f}" if line.std is None else f"{100 * line.mean:.1f} ± {100 * line.std:.1f}"
    interval = "–" if line.interval is None else f"{100 * line.interval[0]:.1f} to {100 * line.interval[1]:.1f}"
    published = [
        f"{100 * line.published[name]:.1f} ({100 * line.differences[name]:+.1f})" if name in line.published else "–"
        for name in SETTINGS
    ]
    return [line.task, line.metric, mean, interval, *published]
