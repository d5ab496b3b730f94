"""The terminal: results go to stdout; progress, notes and errors go to stderr. Tables, progress bars, sparklines."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as ProgressTask
from rich.table import Table
from rich.text import Text

from bigs_cli.models.config import BiGSConfig

Format = Literal["table", "markdown", "csv", "json"]
"""The formats of printed results."""

# Paths and names are printed verbatim: they contain no markup, no emoji codes and nothing to highlight.
out = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
err = Console(stderr=True, soft_wrap=True, markup=False, emoji=False, highlight=False)


def is_screen(console: Console) -> bool:
    """Return whether `console` is a terminal whose lines can be redrawn.

    $FORCE_COLOR, which Jupyter sets, makes rich take a pipe for a terminal.
    """
    return console.is_terminal and ("FORCE_COLOR" not in os.environ or console.file.isatty())


for _console in (out, err):
    if not is_screen(_console):
        _console.width = 1000  # Do not wrap or truncate lines that a program or a log file reads.
    elif _console.width < 1:  # Some launchers set COLUMNS=0, with which rich prints nothing.
        _console.width = 80


class _Rate(ProgressColumn):
    """Units done per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: ProgressTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f} {self.unit}/s" if speed else f"– {self.unit}/s", style="cyan")


@contextlib.contextmanager
def progress(description: str, total: int | None = None, unit: str = "it") -> Iterator[Callable[[int], None]]:
    """Show a progress bar with rate and time left on stderr; yield a function that advances it by n `unit`s.

    Without a terminal no bar is drawn, so that logs contain no control characters.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=err, transient=True, disable=not is_screen(err)) as bars:
        task = bars.add_task(description, total=total)
        yield lambda n: bars.advance(task, n)


def table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table with a title and columns, of which those in `right` are right-aligned."""
    result = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return result


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int) -> str:
    """Return a Markdown table whose columns after the first `text_columns` are right-aligned."""
    alignment = ["---"] * text_columns + ["---:"] * (len(headers) - text_columns)
    return "\n".join(f"| {' | '.join(row)} |" for row in (headers, alignment, *rows))


def warn_of_trimming(config: BiGSConfig, trim: bool) -> None:
    """Print a note on stderr if trimmed batches change the outputs of a model of `config`."""
    if trim and not config.ignores_padding:
        err.print("Padding is trimmed, which changes the outputs of this model: they depend on padding.")


_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 28, low: float | None = None) -> str:
    """Return `values` as a line of at most `width` bars; with more values, each bar is the mean of several.

    The lowest bar stands for the smallest mean, or for `low`, and the highest for the largest. A constant curve has
    bars of middle height. A mean that is not finite is drawn as ×.
    """
    columns = min(width, len(values))
    edges = [column * len(values) // columns for column in range(columns + 1)] if columns else []
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        return "×" * columns
    bottom, top = min(finite) if low is None else min(low, *finite), max(finite)

    def bar(mean: float) -> str:
        if not math.isfinite(mean):
            return "×"
        if top == bottom:
            return _BARS[len(_BARS) // 2]
        return _BARS[round((mean - bottom) / (top - bottom) * (len(_BARS) - 1))]

    return "".join(map(bar, means))
