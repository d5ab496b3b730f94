"""The course of runs as a picture: loss, what the dev sets give, learning rate and throughput over the steps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bigs_cli.core.errors import RequestError
from bigs_cli.core.metric_names import key_in_words, split_and_metric
from bigs_cli.reporting.metrics_log import curve
from bigs_cli.reporting.plots.style import INK, PAPER, clean, colours, head, look, name_figure, step_axis, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Entries = Sequence[Mapping[str, Any]]

PRETRAINING = "pretraining"
"""The objective of a run that is not for a task."""
DEV_TITLE = "dev, in percent"

_POINTS = 100  # Beyond it a curve is also drawn as the mean of its surroundings: what noise hides.
_STEEP = 10  # The largest loss over the median one; beyond it a linear axis would flatten all but the first steps.
_VALIDATION: dict[str, Any] = {"marker": "o", "ms": 4.5, "mfc": PAPER, "mew": 1.3, "lw": 1.0}


def draw_course(runs: Mapping[str, Entries], objectives: Mapping[str, str]) -> Figure:
    """Draw the entries of each run, by its name.

    `objectives` says what each run was trained for: `PRETRAINING`, or a task's title. Losses of different objectives
    are no measure of each other, so each objective has a panel of its own.

    Raises:
        RequestError: nothing was logged yet.
    """
    empty = [name for name, entries in runs.items() if not entries]
    if empty:
        raise RequestError(f"{empty[0]} has logged nothing yet: there is nothing to draw.")
    from matplotlib.figure import Figure

    losses = [f"{objective} loss" for objective in dict.fromkeys(objectives[name] for name in runs)]
    dev = dev_keys(runs)
    panels = [*losses, *([DEV_TITLE] if dev else []), "learning rate", "tokens per second"]
    heights = [1.0 if name in ("learning rate", "tokens per second") else 2.0 for name in panels]
    with style():
        figure = Figure(figsize=(7.5, 1.1 + 1.35 * sum(heights)), layout="constrained")
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})
        axes = dict(zip(panels, rows[:, 0], strict=True))
        for (name, entries), colour in zip(runs.items(), colours(len(runs)), strict=True):
            draw_loss(axes[f"{objectives[name]} loss"], entries, colour)
            for panel, key in (("learning rate", "learning_rate"), ("tokens per second", "tokens_per_second")):
                axes[panel].plot(*curve(entries, key), color=colour, lw=1.4, label=name)
        if dev:
            draw_dev(axes[DEV_TITLE], runs, dev)
        for panel, on in axes.items():
            clean(on, panel)
        for panel in losses:
            finish_loss(axes[panel], panel)
        axes["tokens per second"].set_ylim(bottom=0)
        axes["tokens per second"].yaxis.set_major_formatter(lambda value, _: _short(value))
        axes["learning rate"].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        step_axis(rows[-1, 0])
        if any(curve(entries, "heldout_loss")[1] for entries in runs.values()):
            kinds = [("training", {"lw": 1.4}), ("validation", _VALIDATION)]
            _key(axes[f"{PRETRAINING} loss"], kinds, "upper right")
        name_figure(figure, "training", list(runs))
    return figure


def draw_loss(axes: Axes, entries: Entries, colour: str) -> None:
    """Draw the loss in training, and on the validation rows where there are any."""
    steps, values = curve(entries, "loss")
    noisy = len(values) > _POINTS
    axes.plot(steps, values, color=colour, lw=0.8 if noisy else 1.4, alpha=0.3 if noisy else 0.75)
    if noisy:
        axes.plot(steps, _smooth(values), color=colour, lw=1.4)
    axes.plot(*curve(entries, "heldout_loss"), color=colour, zorder=3, **_VALIDATION)


def finish_loss(axes: Axes, title: str) -> None:
    """Use a logarithmic axis, and say so in the title, where the first losses would flatten all others."""
    values = [float(value) for line in axes.lines for value in line.get_ydata()]  # pyright: ignore[reportGeneralTypeIssues]
    if not values or min(values) <= 0 or max(values) < _STEEP * statistics.median(values):
        return
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.minorticks_off()
    head(axes, f"{title}, logarithmic scale")


def dev_keys(runs: Mapping[str, Entries]) -> list[str]:
    """Return the keys of the metrics of dev sets that any of the runs logged."""
    logged = (key for entries in runs.values() for entry in entries for key in entry)
    return list(dict.fromkeys(key for key in logged if split_and_metric(key) is not None))


def draw_dev(axes: Axes, runs: Mapping[str, Entries], keys: Sequence[str]) -> None:
    """Draw metrics of dev sets in percent, each with a look of its own, in the colour of the run.

    A single run needs no colour of its own: its metrics have one each.
    """
    alone = len(runs) == 1
    of_metrics = colours(len(keys)) if alone else [INK] * len(keys)
    for entries, of_run in zip(runs.values(), colours(len(runs)), strict=True):
        for number, key in enumerate(keys):
            steps, values = curve(entries, key)
            shown = [100 * value for value in values]
            axes.plot(steps, shown, color=of_metrics[number] if alone else of_run, label=key, **look(number))
    lines = [(key_in_words(key), {"color": of_metrics[i], **look(i)}) for i, key in enumerate(keys)]
    _key(axes, lines, "best", handlelength=3.2)


def _key(axes: Axes, lines: Sequence[tuple[str, dict[str, Any]]], place: Any, handlelength: float = 1.8) -> None:
    """Name kinds of line where they are drawn."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=label, **{"color": INK, **look}) for label, look in lines]
    axes.legend(handles=handles, loc=place, frameon=False, handlelength=handlelength)


def _smooth(values: list[float]) -> list[float]:
    """Return the mean around each value, over a fiftieth of all; fewer at both ends, where there are no more."""
    half = max(1, len(values) // 100)
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    spans = [(max(0, i - half), min(len(values), i + half + 1)) for i in range(len(values))]
    return [(sums[b] - sums[a]) / (b - a) for a, b in spans]


def _short(value: float) -> str:
    """Return 1500 as "1.5k": numbers that large are read by their size."""
    if not value:
        return "0"
    power = min(max(int(math.log10(abs(value)) // 3), 0), 3)
    return f"{value / 1000**power:g}{('', 'k', 'M', 'G')[power]}"
