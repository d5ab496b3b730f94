"""Tables of the scores of a task, in percent, with the majority baseline and the published scores."""

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
"""The name of the scores of always predicting the most frequent label."""


@dataclass(frozen=True)
class Baseline:
    """The scores, metric → fraction, of always predicting `answer`, the most frequent label of a split."""

    answer: str
    metrics: Mapping[str, float]

    def describe(self, split: str) -> str:
        """Return a sentence that explains the baseline."""
        return f"The {BASELINE} for {split_in_words(split)} always predicts “{self.answer}”, the most frequent label."


@dataclass(frozen=True)
class Scores:
    """Metrics of a task by split (fractions; None if not finite), baselines by split, and notes.

    `notes` are sentences about constant predictions.
    """

    splits: Mapping[str, Mapping[str, float | None]]
    baselines: Mapping[str, Baseline]
    notes: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """Return the sentences below the table."""
        return [*(baseline.describe(split) for split, baseline in self.baselines.items()), *self.notes]


def scores_table(task: Task, scores: Scores) -> Table:
    """Return a table with one row per metric, and columns for the baseline and, for dev, every published setting."""
    published = task.published if "dev" in scores.splits else ()
    headers = [f"published {row.setting}" for row in published]
    baseline, split_header = [BASELINE] * bool(scores.baselines), ["split"] * (len(scores.splits) > 1)
    right = ("this model", *baseline, *headers)
    title = f"{task.title}, {' and '.join(map(split_in_words, scores.splits))}, in percent"
    result = table(title, "metric", *split_header, *right, right=right)
    for split, metrics in scores.splits.items():
        baselines = scores.baselines[split].metrics if split in scores.baselines else {}
        for name, value in _in_order(task, metrics):
            cells = [percent(baselines.get(name)) for _ in baseline]
            cells += [_published(row.scores, name, split) for row in published]
            splits = (split_in_words(split) for _ in split_header)
            result.add_row(metric_in_words(name), *splits, percent(value), *cells)
    return result


def seeds_table(task: Task, summary: Mapping[str, Any]) -> Table:
    """Return a table of seeds.json (`evaluation/seeds.py`), with one column per metric."""
    columns = [(split, *each) for split, metrics in by_split(summary).items() for each in _in_order(task, metrics)]
    suffixes = ["" if split == "dev" else f", {split_in_words(split)}" for split, _, _ in columns]
    headers = [metric_in_words(name) + suffix for (_, name, _), suffix in zip(columns, suffixes, strict=True)]
    title = f"{task.title}, dev, {counted(len(summary['seeds']), 'seed')}, in percent"
    result = table(title, "", *headers, right=tuple(headers))
    figures = [figures for _, _, figures in columns]
    for name, key in (("mean", "mean"), ("standard deviation", "std"), ("best", "best")):
        result.add_row(name, *(percent(of[key]) for of in figures))
    edges = ([percent(edge, 1) for edge in of.get("interval", ())] for of in figures)
    result.add_row("95% interval", *(" to ".join(each) or "–" for each in edges))
    if any("baseline" in of for of in figures):
        result.add_row(BASELINE, *(percent(of.get("baseline")) for of in figures))
    for row in task.published:
        result.add_row(f"published {row.setting}", *(_published(row.scores, name, split) for split, name, _ in columns))
    return result


def _in_order(task: Task, metrics: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the metrics of the task in its order, then the others."""
    return sorted(metrics.items(), key=lambda item: [*task.metrics, item[0]].index(item[0]))


def _published(scores: Mapping[str, float], name: str, split: str) -> str:
    """Return a published score, which is that of the dev split (of MNLI: matched), or a dash."""
    return f"{scores[name]:.1f}" if split == "dev" and name in scores else "–"
