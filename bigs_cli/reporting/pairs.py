"""How often a model preferred the right one of two, as a table for a person, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bigs_cli.core.files import to_json
from bigs_cli.reporting.console import Format, table

_HEADERS = ("by", "group", "n", "accuracy (%)", "95% interval")


@dataclass(frozen=True)
class Accuracy:
    """In `right` of `n` pairs of a group the right one scored higher; `level` is what groups are made by."""

    level: str
    group: str
    n: int
    right: int

    @property
    def accuracy(self) -> float:
        """The fraction that is right."""
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of Wilson (1927), which stays within 0 and 1: what other pairs of the kind might give."""
        from scipy.stats import binomtest

        low, high = binomtest(self.right, self.n).proportion_ci(0.95, method="wilson")
        return float(low), float(high)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON and CSV, figures as fractions."""
        low, high = self.interval
        named = {"level": self.level, "group": self.group, "n": self.n, "right": self.right}
        return {**named, "accuracy": self.accuracy, "low": low, "high": high}


def accuracy_table(lines: Sequence[Accuracy], title: str) -> Table:
    """Return a table in percent, a row each."""
    made = table(title, *_HEADERS, right=_HEADERS[2:])
    for line in lines:
        made.add_row(*_cells(line))
    return made


def accuracy_text(lines: Sequence[Accuracy], form: Format, about: Mapping[str, Any]) -> str:
    """Return Markdown (percent, as in the table), CSV or JSON (fractions); `about` opens the JSON object."""
    if form == "json":
        metrics = {"accuracy": lines[0].accuracy, "n": lines[0].n}
        return to_json({**about, "metrics": metrics, "groups": [line.as_dict() for line in lines]}, indent=2)
    if form == "markdown":
        rows = [_HEADERS, ["---"] * 2 + ["---:"] * 3, *map(_cells, lines)]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)
    made = io.StringIO()
    writer = csv.DictWriter(made, list(lines[0].as_dict()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(line.as_dict() for line in lines)
    return made.getvalue().removesuffix("\n")


def _cells(line: Accuracy) -> list[str]:
    low, high = line.interval
    interval = f"{100 * low:.1f} to {100 * high:.1f}"
    return [line.level, line.group, f"{line.n:,}", f"{100 * line.accuracy:.1f}", interval]
