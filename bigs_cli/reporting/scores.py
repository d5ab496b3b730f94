"""A task's scores beside a baseline and the published ones, in percent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bigs_cli.core.metric_names import by_split, metric_in_words, percent, split_in_words
from bigs_cli.core.wording import counted
from bigs_cli.reporting.console import table
from bigs_cli.tasks.task import Task

BASELINE = "majority baseline"
"""The heading of what one answer to every example scores."""


@dataclass(frozen=True)
class Baseline:
    """What answering every example of a split with `answer`, its most frequent label, scores: metric → fraction."""

    answer: str
    metrics: Mapping[str, float]

    def describe(self, split: str) -> str:
        """Return a sentence that says which answer it is."""
        return f"The {BASELINE} of {split_in_words(split)} always answers “{self.answer}”, its most frequent label."


@dataclass(frozen=True)
class Scores:
    """Metrics of a task by split (fractions; None was not finite), the baseline of each split that has one, and notes.

    `notes` are sentences about predictions that are all the same.
    """

    splits: Mapping[str, Mapping[str, float | None]]
    baselines: Mapping[str, Baseline]
    notes: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """Return what is to be read below the table."""
        return [*(baseline.describe(split) for split, baseline in self.baselines.items()), *self.notes]


def scores_table(task: Task, scores: Scores) -> Table:
    """Return a table of metrics, one row each, beside the baseline and, for dev, every published setting."""
    published = task.published if "dev" in scores.splits else ()
    headers = [f"published {row.setting}" for row in published]
    baseline, further = [BASELINE] * bool(scores.baselines), ["split"] * (len(scores.splits) > 1)
    right = ("this model", *baseline, *headers)
    title = f"{task.title}, {' and '.join(map(split_in_words, scores.splits))}, in percent"
    made = table(title, "metric", *further, *right, right=right)
    for split, metrics in scores.splits.items():
        always = scores.baselines[split].metrics if split in scores.baselines else {}
        for name, value in _in_order(task, metrics):
            cells = [percent(always.get(name)) for _ in baseline]
            cells += [_published(row.scores, name, split) for row in published]
            made.add_row(metric_in_words(name), *(split_in_words(split) for _ in further), percent(value), *cells)
    return made


def seeds_table(task: Task, summary: Mapping[str, Any]) -> Table:
    """Return a table of what seeds.json says (`evaluation/seeds.py`), a column for each metric."""
    columns = [(split, *each) for split, metrics in by_split(summary).items() for each in _in_order(task, metrics)]
    further = ["" if split == "dev" else f", {split_in_words(split)}" for split, _, _ in columns]
    heads = [metric_in_words(name) + split for (_, name, _), split in zip(columns, further, strict=True)]
    title = f"{task.title}, dev, {counted(len(summary['seeds']), 'seed')}, in percent"
    made = table(title, "", *heads, right=tuple(heads))
    figures = [figures for _, _, figures in columns]
    for name, key in (("mean", "mean"), ("spread", "std"), ("best", "best")):
        made.add_row(name, *(percent(of[key]) for of in figures))
    edges = ([percent(edge, 1) for edge in of.get("interval", ())] for of in figures)
    made.add_row("95% interval", *(" to ".join(each) or "–" for each in edges))
    if any("baseline" in of for of in figures):
        made.add_row(BASELINE, *(percent(of.get("baseline")) for of in figures))
    for row in task.published:
        made.add_row(f"published {row.setting}", *(_published(row.scores, name, split) for split, name, _ in columns))
    return made


def _in_order(task: Task, metrics: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return metrics with those that the task names first, in its order."""
    return sorted(metrics.items(), key=lambda item: [*task.metrics, item[0]].index(item[0]))


def _published(scores: Mapping[str, float], name: str, split: str) -> str:
    """Return a published figure, which is of dev (of MNLI, matched)."""
    return f"{scores[name]:.1f}" if split == "dev" and name in scores else "–"
