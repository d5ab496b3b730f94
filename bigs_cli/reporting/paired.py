"""Two runs of one task on the same examples: the tables that say whether, and where, they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from bigs_cli.reporting.console import printable, table


@dataclass(frozen=True)
class PairedTest:
    """A metric of both runs (fractions), the 95% interval of the second's minus the first's, and a two-sided p."""

    metric: str
    how: str
    values: tuple[float, float]
    interval: tuple[float, float]
    p: float

    @property
    def difference(self) -> float:
        """The second run's value minus the first's."""
        return self.values[1] - self.values[0]


@dataclass(frozen=True)
class Paired:
    """What two runs answered to the same examples of a task."""

    task: str
    names: tuple[str, str]
    tests: tuple[PairedTest, ...]
    counts: Mapping[str, int]
    """How many examples both, one or neither got right; of scores, to which each run came nearer."""
    differing: tuple[tuple[Mapping[str, Any], Mapping[str, Any]], ...]
    """The lines of both predictions.jsonl on which the answers differ; of scores, the furthest apart first."""


def paired_tables(paired: Paired, examples: int, width: int | None = None) -> list[Table]:
    """Return the tests, the counts, and the first `examples` examples with different answers, as tables.

    A text is cut to `width` columns; None: it is whole.
    """
    first, second = paired.names
    right = (first, second, "difference", "95% interval", "p")
    tests = table(f"{paired.task}, dev: paired tests", "metric", "test", *right, right=right)
    for test in paired.tests:
        low, high = (f"{100 * edge:+.2f}" for edge in test.interval)
        values = [f"{100 * value:.2f}" for value in test.values]
        tests.add_row(test.metric, test.how, *values, f"{100 * test.difference:+.2f}", f"{low} to {high}", _p(test.p))
    total = max(1, sum(paired.counts.values()))
    counts = table(f"{paired.task}, dev: examples", "", "examples", "share", right=("examples", "share"))
    for name, count in paired.counts.items():
        counts.add_row(name, f"{count:,}", f"{100 * count / total:.1f}%")
    shown = paired.differing[:examples]
    if not shown:
        return [tests, counts]
    title = f"{paired.task}, dev: different answers, {len(shown)} of {len(paired.differing):,}"
    made = table(title, "id", "text", "label", first, second, right=("id",))
    for one, other in shown:
        made.add_row(*example_cells(one, width), _answer_of(other, "prediction"))
    return [tests, counts, made]


def example_cells(line: Mapping[str, Any], width: int | None = None) -> list[str]:
    """Return id, text, label and prediction of a line of predictions.jsonl, the text cut to `width` columns."""
    parts = list(_texts(line))
    if width is not None:
        each = max(8, (width - 3 * (len(parts) - 1)) // max(1, len(parts)))
        parts = [_cut(part, each) for part in parts]
    number, text = printable(str(line.get("id", ""))), " │ ".join(parts)
    return [number, text, _answer_of(line, "label"), _answer_of(line, "prediction")]


def answer(value: Any) -> str:
    """Return a label or a prediction as a person reads it; of several right answers, each once."""
    if isinstance(value, list):
        return " │ ".join(dict.fromkeys(map(answer, value)))
    return f"{value:.3g}" if isinstance(value, float) else "–" if value in (None, "") else printable(str(value))


def _answer_of(line: Mapping[str, Any], of: str) -> str:
    """Return `label` or `prediction` of a line; of tags, the words that have one, with it: `Paris/B-LOC`."""
    value, words = line.get(of), line.get("words", ())
    if not isinstance(value, list) or len(words) != len(value):
        return answer(value)
    pairs = zip(words, value, strict=True)
    return answer(" ".join(f"{word}/{tag}" for word, tag in pairs if tag != "O"))


def _texts(line: Mapping[str, Any]) -> Iterator[str]:
    for name in ("text", "pair"):
        if name in line:
            yield printable(str(line[name]))
    yield from (printable(str(choice)) for choice in line.get("choices", ()))
    if "words" in line:
        yield printable(" ".join(map(str, line["words"])))


def _cut(text: str, width: int) -> str:
    cut = Text(text)
    cut.truncate(width, overflow="ellipsis")
    return cut.plain


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.001 else f"{value:.1e}"
