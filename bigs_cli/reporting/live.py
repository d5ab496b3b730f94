"""The live view of a run on a terminal: a progress bar with the time left and, below it, the last logged values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from bigs_cli.reporting import console as consoles
from bigs_cli.reporting.console import is_screen, sparkline


class LiveView(Progress):
    """Two lines that are redrawn: steps and time left; loss, learning rate, tokens/s, utilization and data wait.

    A context manager. Without a terminal it draws nothing and `drawn` is false; the caller then prints lines instead.
    """

    def __init__(
        self, name: str, first: int, last: int, peak_tokens: float | None = None, console: Console | None = None
    ) -> None:
        """Start after step `first` of `last`; `peak_tokens` is the tokens per second at peak FLOP/s, if known."""
        console = console or consoles.err
        self.drawn = is_screen(console)
        self.peak_tokens = peak_tokens
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
        """Yield the progress bar and the line of values below it."""
        yield self.make_tasks_table(self.tasks)
        yield self.figures

    def step(self) -> None:
        """Advance the bar by one step."""
        self.advance(self.bar)

    def show(self, values: Mapping[str, float]) -> None:
        """Show logged values: loss, learning_rate, tokens_per_second, data_wait_fraction."""
        self.losses.append(values["loss"])
        self.figures = values_line(values, self.losses, self.peak_tokens)


def values_line(values: Mapping[str, float], losses: Sequence[float], peak_tokens: float | None = None) -> Text:
    """Return the values as one line, truncated if too long; the sparkline of the losses is at its end."""
    rate = values["tokens_per_second"]
    figures = [
        f"loss {values['loss']:.4f}",
        f"lr {values['learning_rate']:.2e}",
        f"{rate:,.0f} tokens/s",
        *([f"{rate / peak_tokens:.0%} of peak"] if peak_tokens else []),
        f"waiting for data {values['data_wait_fraction']:.0%}",
        sparkline(losses),
    ]
    return Text("  " + "  ".join(figures), style="cyan", no_wrap=True, overflow="ellipsis")
