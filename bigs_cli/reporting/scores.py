"""A task's scores beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from bigs_cli.reporting.console import table
from bigs_cli.tasks.task import Task


def scores_table(task: Task, metrics: Mapping[str, float | None]) -> Table:
    """Return a table of `metrics` (fractions, shown in percent), one row each, beside every published setting.

    None is what was not finite.
    """
    settings = [row.setting for row in task.published]
    headers = [f"published {setting}" for setting in settings]
    made = table(f"{task.title}, dev", "metric", "this model", *headers, right=("this model", *headers))
    for name, value in metrics.items():
        cells = [f"{row.scores[name]:.1f}" if name in row.scores else "–" for row in task.published]
        made.add_row(name, "–" if value is None else f"{100 * value:.2f}", *cells)
    return made


def seeds_table(task: Task, summary: Mapping[str, Any]) -> Table:
    """Return a table of what seeds.json says (`evaluation/seeds.py`), in percent, beside every published setting."""
    settings = [row.setting for row in task.published]
    headers = [f"published {setting}" for setting in settings]
    right = ("mean", "spread", "best", "95% interval", *headers)
    made = table(f"{task.title}, dev, {len(summary['seeds'])} seeds", "metric", *right, right=right)
    for name, figures in summary["metrics"].items():
        sure = figures.get("interval")
        interval = f"{100 * sure[0]:.1f} to {100 * sure[1]:.1f}" if sure else "–"
        cells = [f"{row.scores[name]:.1f}" if name in row.scores else "–" for row in task.published]
        own = [f"{100 * figures[key]:.2f}" for key in ("mean", "std", "best")]
        made.add_row(name, *own, interval, *cells)
    return made
