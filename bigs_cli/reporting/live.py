"""A run as it goes, on a terminal: a bar with the time left, and under it the last figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from bigs_cli.reporting import console as consoles
from bigs_cli.reporting.sparkline import sparkline


class LiveView(Progress):
    """Two lines that are drawn anew: steps done and time left; loss, learning rate, tokens/s, and what limits them.

    A context manager. Without a terminal it draws nothing: `drawn` is false, and lines are to be printed instead.
    """

    def __init__(
        self, name: str, first: int, last: int, full_rate: float | None = None, console: Console | None = None
    ) -> None:
        """Begin after step `first` of `last`; `full_rate`: tokens/s at the machine's peak, if that is known."""
        console = console or consoles.err
        self.drawn = console.is_terminal
        self.full_rate = full_rate
        self.losses: list[float] = []
        self.figures = Text("compiling the first step …", style="dim")
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("time left"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not self.drawn,
        )
        self.bar = self.add_task(name, total=last, completed=first)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Give the bar, and the figures under it."""
        yield self.make_tasks_table(self.tasks)
        yield self.figures

    def step(self) -> None:
        """Count a step."""
        self.advance(self.bar)

    def show(self, values: Mapping[str, float]) -> None:
        """Show what was logged: loss, learning_rate, tokens_per_second, data_wait_fraction."""
        self.losses.append(values["loss"])
        self.figures = figures(values, self.losses, self.full_rate)


def figures(values: Mapping[str, float], losses: Sequence[float], full_rate: float | None = None) -> Text:
    """Return the figures in a line that is cut, not wrapped; the course of the loss comes last, to be cut first."""
    rate = values["tokens_per_second"]
    shown = [
        f"loss {values['loss']:.4f}",
        f"lr {values['learning_rate']:.2e}",
        f"{rate:,.0f} tokens/s",
        *([f"{rate / full_rate:.0%} of peak"] if full_rate else []),
        f"waiting for data {values['data_wait_fraction']:.0%}",
        sparkline(losses),
    ]
    return Text("  " + "  ".join(shown), style="cyan", no_wrap=True, overflow="ellipsis")
