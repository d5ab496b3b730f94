"""Curves of runs over the steps: training curves, and the validation curve of fine-tuning runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bigs_cli.core.errors import RequestError
from bigs_cli.core.metric_names import key_in_words, log_key, split_and_metric
from bigs_cli.reporting.metrics_log import curve
from bigs_cli.reporting.plots.style import INK, PAPER, clean, colours, head, line_style, name_figure, step_axis, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Entries = Sequence[Mapping[str, Any]]

PRETRAINING = "pretraining"
"""The objective of a pretraining run."""
DEV_TITLE = "dev, in percent"

_POINTS = 100  # A curve with more points is also drawn as a moving average.
_STEEP = 10  # If the largest loss is this many times the median, the axis is logarithmic.
_VALIDATION: dict[str, Any] = {"marker": "o", "ms": 4.5, "mfc": PAPER, "mew": 1.3, "lw": 1.0}


def draw_training_curves(runs: Mapping[str, Entries], objectives: Mapping[str, str]) -> Figure:
    """Draw the training curves of `runs`, which maps names of runs to their log entries.

    `objectives` has the objective of each run: `PRETRAINING` or the title of a task. Losses of different objectives are
    not comparable, so each objective has its own panel.

    Raises:
        RequestError: a run has no log entries yet.
    """
    empty = [name for name, entries in runs.items() if not entries]
    if empty:
        raise RequestError(f"{empty[0]} has not logged anything yet, so there is nothing to plot.")
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
            _legend(axes[f"{PRETRAINING} loss"], kinds, "upper right")
        name_figure(figure, "training", list(runs))
    return figure


def draw_loss(axes: Axes, entries: Entries, colour: str) -> None:
    """Draw the training loss and, if there is one, the validation loss."""
    steps, values = curve(entries, "loss")
    noisy = len(values) > _POINTS
    axes.plot(steps, values, color=colour, lw=0.8 if noisy else 1.4, alpha=0.3 if noisy else 0.75)
    if noisy:
        axes.plot(steps, _smooth(values), color=colour, lw=1.4)
    axes.plot(*curve(entries, "heldout_loss"), color=colour, zorder=3, **_VALIDATION)


def finish_loss(axes: Axes, title: str) -> None:
    """Use a logarithmic axis, and say so in the title, if the first losses are much larger than the others."""
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
    """Return the keys of the dev metrics in the logs of any of the runs."""
    logged = (key for entries in runs.values() for entry in entries for key in entry)
    return list(dict.fromkeys(key for key in logged if split_and_metric(key) is not None))


def draw_dev(axes: Axes, runs: Mapping[str, Entries], keys: Sequence[str]) -> None:
    """Draw dev metrics in percent, with one line style per metric and one colour per run.

    For a single run, each metric has its own colour.
    """
    single = len(runs) == 1
    metric_colours = colours(len(keys)) if single else [INK] * len(keys)
    for entries, run_colour in zip(runs.values(), colours(len(runs)), strict=True):
        for number, key in enumerate(keys):
            steps, values = curve(entries, key)
            percents = [100 * value for value in values]
            colour = metric_colours[number] if single else run_colour
            axes.plot(steps, percents, color=colour, label=key, **line_style(number))
    lines = [(key_in_words(key), {"color": metric_colours[i], **line_style(i)}) for i, key in enumerate(keys)]
    _legend(axes, lines, "best", handlelength=3.2)


def _legend(axes: Axes, lines: Sequence[tuple[str, dict[str, Any]]], place: Any, handlelength: float = 1.8) -> None:
    """Add a legend of line styles."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=label, **{"color": INK, **style}) for label, style in lines]
    axes.legend(handles=handles, loc=place, frameon=False, handlelength=handlelength)


def _smooth(values: list[float]) -> list[float]:
    """Return the centred moving average over a fiftieth of all values, or fewer at both ends."""
    half = max(1, len(values) // 100)
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    spans = [(max(0, i - half), min(len(values), i + half + 1)) for i in range(len(values))]
    return [(sums[b] - sums[a]) / (b - a) for a, b in spans]


def _short(value: float) -> str:
    """Format a number with a unit prefix: 1500 as "1.5k"."""
    if not value:
        return "0"
    power = min(max(int(math.log10(abs(value)) // 3), 0), 3)
    return f"{value / 1000**power:g}{('', 'k', 'M', 'G')[power]}"


def draw_validation_curve(runs: Mapping[str, Entries], metric: str, task: str) -> Figure:
    """Draw the dev metrics in percent and the training losses of `runs` on `task`.

    `runs` maps names of runs to their log entries. A circle marks the best value of `metric` (the first in a tie),
    which selects the checkpoint.

    Raises:
        RequestError: a run has not been evaluated yet.
    """
    for name, entries in runs.items():
        if not dev_keys({name: entries}):
            raise RequestError(
                f"{name} has not been evaluated on its dev set yet, so there is no validation curve to plot."
            )
    from matplotlib.figure import Figure

    selecting = log_key("dev", metric)
    keys = sorted(dev_keys(runs), key=lambda key: key != selecting)
    with style():
        figure = Figure(figsize=(7.5, 4.9), layout="constrained")
        dev, loss = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [1.7, 1.0]})
        draw_dev(dev, runs, keys)
        for entries, colour in zip(runs.values(), colours(len(runs)), strict=True):
            draw_loss(loss, entries, colour)
            _mark_best(dev, entries, selecting, colour)
        clean(dev, DEV_TITLE)
        dev.margins(y=0.15)
        low, high = dev.get_ylim()
        if high - low < 1:  # Differences below one point must not look large.
            dev.set_ylim((low + high - 1) / 2, (low + high + 1) / 2)
        clean(loss, "training loss")
        finish_loss(loss, "training loss")
        step_axis(loss)
        name_figure(figure, f"{task} validation curve", list(runs))
    return figure


def _mark_best(axes: Axes, entries: Entries, key: str, colour: str) -> None:
    steps, values = curve(entries, key)
    if not values:
        return
    best = values.index(max(values))
    point = (steps[best], 100 * values[best])
    axes.plot(*point, "o", color=colour, ms=10, mfc="none", mew=1.4, clip_on=False)
    right_half = 2 * steps[best] > steps[-1]
    axes.annotate(
        f"{point[1]:.1f}",
        point,
        xytext=(-8 if right_half else 8, 6),
        textcoords="offset points",
        ha="right" if right_half else "left",
        color=INK,
        fontsize=9,
        bbox={"fc": PAPER, "ec": "none", "pad": 1.0},
    )
