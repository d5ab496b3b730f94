"""Paired significance tests of two models, on the same examples of a dev set or with the same seeds.

On the same examples, they detect much smaller differences than two separate confidence intervals, but do not account
for the variation over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from bigs_cli.core.errors import RequestError
from bigs_cli.core.metric_names import metric_in_words, percent
from bigs_cli.core.wording import printable
from bigs_cli.evaluation.bootstrap import paired_bootstrap
from bigs_cli.evaluation.predictions import of_split
from bigs_cli.reporting.console import table
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import type_of
from bigs_cli.tasks.types.base import Lines, TaskType, mean_of

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PairedTest:
    """A metric of both runs (fractions), the 95% interval of the difference second − first, and a two-sided p-value."""

    metric: str
    method: str
    values: tuple[float, float]
    interval: tuple[float, float]
    p: float

    @property
    def difference(self) -> float:
        """The value of the second run minus that of the first."""
        return self.values[1] - self.values[0]


@dataclass(frozen=True)
class Paired:
    """The comparison of two runs on the same examples of a task."""

    task: Task
    names: tuple[str, str]
    tests: tuple[PairedTest, ...]
    counts: Mapping[str, int]
    """The number of examples that both, one or neither run predicts correctly.

    In regression, the number of examples for which each run is closer to the label.
    """
    differing: tuple[tuple[Mapping[str, Any], Mapping[str, Any]], ...]
    """The pairs of lines of predictions.jsonl whose predictions differ; in regression, largest differences first."""


def paired_t_test(first: Mapping[Any, float], second: Mapping[Any, float]) -> float | None:
    """Return the two-sided p-value of a t-test that two measurements, seed → value, differ by 0 in the mean.

    The seeds that both have are compared. None for fewer than two, or if all differences are equal.
    """
    differences = [value - second[seed] for seed, value in first.items() if seed in second]
    if len(set(differences)) < 2:
        return None
    from scipy.stats import ttest_1samp

    result: Any = ttest_1samp(differences, 0.0)
    return float(result.pvalue)


def mcnemar(first_right: Array, second_right: Array) -> float:
    """Return the two-sided p-value of McNemar's exact test; the arguments `[n]` bool mark the correct predictions.

    This is a binomial test on the examples that only one model predicts correctly: if the models are equally good, each
    is the correct one with probability ½ (McNemar 1947; Dietterich 1998, §3). Without such examples, p is 1.0.
    """
    from scipy.stats import binomtest

    first, second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def pair(task: Task, names: tuple[str, str], runs: tuple[Lines, Lines]) -> Paired:
    """Compare the predictions of two `runs`, the lines of their predictions.jsonl, on the dev set.

    McNemar's test counts an example as correct if its prediction is entirely correct: the class, the ending, every tag
    of a sentence, or an exact match of the answer.

    Raises:
        RequestError: the examples differ, there are none, or they are of another task.
    """
    task_type = type_of(task)
    one, two = (of_split(lines, "dev") for lines in runs)
    if _examples(task_type, one) != _examples(task_type, two) or not one:
        raise RequestError(
            f"{names[0]} and {names[1]} were not evaluated on the same dev examples ({len(one)} and "
            f"{len(two)}): no paired test. Evaluate both on the same data: bigs eval {task.name} --predictions FILE"
        )
    first, second = task_type.example_scores(one), task_type.example_scores(two)
    metric, tests = task.metrics[0], []
    differing = np.array([a["prediction"] != b["prediction"] for a, b in zip(one, two, strict=True)]).nonzero()[0]
    if first.right is not None and second.right is not None:
        name = task_type.right_name
        interval, _ = paired_bootstrap(mean_of(first.right), mean_of(second.right), first.count)
        fractions = (float(first.right.mean()), float(second.right.mean()))
        tests.append(PairedTest(name, "McNemar, exact", fractions, interval, mcnemar(first.right, second.right)))
        counts = _count_correct(first.right, second.right, names)
    else:
        name = ""
        counts = {}
        pairs = [pair for lines in (one, two) if (pair := task_type.label_pairs(lines)) is not None]
        if pairs:
            (labels, first_values), (_, second_values) = pairs
            counts = _count_closer(np.abs(first_values - labels), np.abs(second_values - labels), names)
            distances = np.abs(first_values - second_values)[differing]
            differing = differing[np.argsort(-distances, kind="stable")]
    if metric != name:
        metrics = first.metrics[metric], second.metrics[metric]
        interval, p = paired_bootstrap(*metrics, first.count)
        all_rows = np.arange(first.count)
        values = metrics[0](all_rows), metrics[1](all_rows)
        tests.append(PairedTest(metric, "paired bootstrap", values, interval, p))
    return Paired(task, names, tuple(tests), counts, tuple((one[i], two[i]) for i in differing))


def _examples(task_type: TaskType, lines: Lines) -> list[dict[str, Any]]:
    """Return the inputs and labels of lines, without the predictions."""
    return [{name: value for name, value in line.items() if name not in task_type.answer_keys} for line in lines]


def _count_correct(first: Array, second: Array, names: tuple[str, str]) -> dict[str, int]:
    return {
        "both correct": int((first & second).sum()),
        f"only {names[0]} correct": int((first & ~second).sum()),
        f"only {names[1]} correct": int((~first & second).sum()),
        "both wrong": int((~first & ~second).sum()),
    }


def _count_closer(first: Array, second: Array, names: tuple[str, str]) -> dict[str, int]:
    return {
        f"{names[0]} closer": int((first < second).sum()),
        f"{names[1]} closer": int((second < first).sum()),
        "equally close": int((first == second).sum()),
    }


def paired_tables(paired: Paired, examples: int, width: int | None = None) -> list[Table]:
    """Return tables of the tests, the counts, and the first `examples` examples whose predictions differ.

    Texts are truncated to `width` columns; None: not at all.
    """
    first, second = paired.names
    title = paired.task.title
    right = (first, second, "difference", "95% interval", "p")
    tests = table(f"{title}, dev: paired tests, in percent", "metric", "test", *right, right=right)
    for test in paired.tests:
        low, high = (f"{100 * edge:+.2f}" for edge in test.interval)
        values = [percent(value) for value in test.values]
        cells = [*values, f"{100 * test.difference:+.2f}", f"{low} to {high}", _p(test.p)]
        tests.add_row(metric_in_words(test.metric), test.method, *cells)
    total = max(1, sum(paired.counts.values()))
    counts = table(f"{title}, dev: examples", "", "examples", "share", right=("examples", "share"))
    for name, count in paired.counts.items():
        counts.add_row(name, f"{count:,}", f"{100 * count / total:.1f}%")
    shown = paired.differing[:examples]
    if not shown:
        return [tests, counts]
    title += f", dev: different predictions, {len(shown)} of {len(paired.differing):,}"
    return [tests, counts, example_table(type_of(paired.task), title, shown, (first, second), width)]


def example_table(
    task_type: TaskType,
    title: str,
    examples: Sequence[Sequence[Mapping[str, Any]]],
    predictions: Sequence[str],
    width: int | None = None,
    further: Mapping[str, Sequence[str]] | None = None,
) -> Table:
    """Return a table of examples: id, text, label, one column for each of `predictions`, and the columns of `further`.

    Each example is a sequence of its lines in one or more predictions.jsonl, of a task of type `task_type`. Texts are
    truncated to `width` columns.
    """
    aligned = task_type.aligned_cells
    answers = [*task_type.label_headers, *predictions, *(further or {})]
    # Beside aligned cells, the text comes last, so that they are next to the id on a narrow screen too.
    headers = ["id", *answers, "text"] if aligned else ["id", "text", *answers]
    result = table(title, *headers, right=("id", *(further or {})))
    for number, lines in enumerate(examples):
        cells = task_type.comparison_cells(lines)
        cells += [column[number] for column in (further or {}).values()]
        name, text = _id_and_text(task_type, lines[0], width)
        result.add_row(*([name, *cells, text] if aligned else [name, text, *cells]))
    if aligned:
        for column in result.columns[1:-1]:
            column.no_wrap = True  # A wrapped line would misalign those below it.
    return result


def _id_and_text(task_type: TaskType, line: Mapping[str, Any], width: int | None) -> list[str]:
    parts = [printable(text) for text in task_type.line_texts(line)]
    if width is not None:
        each = max(8, (width - 3 * (len(parts) - 1)) // max(1, len(parts)))
        parts = [_cut(part, each) for part in parts]
    return [printable(str(line.get("id", ""))), " │ ".join(parts)]


def _cut(text: str, width: int) -> str:
    cut = Text(text)
    cut.truncate(width, overflow="ellipsis")
    return cut.plain


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.001 else f"{value:.1e}"
