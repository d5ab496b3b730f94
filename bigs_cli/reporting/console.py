"""Two consoles: what was asked for goes to stdout, everything a person watches goes to stderr."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
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

Format = Literal["table", "markdown", "csv", "json"]
"""How figures are printed."""

# Paths and names are printed as they are: nothing in them is markup, an emoji, or worth a colour.
out = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
err = Console(stderr=True, soft_wrap=True, markup=False, emoji=False, highlight=False)
for _console in (out, err):
    if not _console.is_terminal:
        _console.width = 1000  # What another program or a log reads is not cut to a screen's width.
    elif _console.width < 1:  # COLUMNS=0, as some programs that start others set it: nothing would be printed at all
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
    """Show a bar with rate and time left on stderr; yield a function that advances it by n `unit`s.

    Without a terminal nothing is drawn: logs stay free of control characters.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        task = bars.add_task(description, total=total)
        yield lambda n: bars.advance(task, n)


def table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table with a title and these columns, those named in `right` aligned right."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made
