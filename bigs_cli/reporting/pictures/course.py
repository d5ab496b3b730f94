"""The course of runs as a picture: loss, what the dev sets give, learning rate and throughput over the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bigs_cli.core.errors import RequestError
from bigs_cli.reporting.metrics_log import curve
from bigs_cli.reporting.pictures.style import INK, PAPER, clean, colour, name_runs, step_axis, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = ("o-", "s--", "^:")
_POINTS = 100  # Beyond it a curve is also drawn as the mean of its surroundings: what noise hides.


def draw_course(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draw the entries of each run, by its name.

    Raises:
        RequestError: nothing was logged yet.
    """
    empty = [name for name, entries in runs.items() if not entries]
    if empty:
        raise RequestError(f"{empty[0]} has logged nothing yet: there is nothing to draw.")
    from matplotlib.figure import Figure

    dev = dev_names(runs)
    panels = ["loss", *(["dev"] if dev else []), "learning rate", "tokens per second"]
    heights = [2.2 if name in ("loss", "dev") else 1.0 for name in panels]
    with style():
        figure = Figure(figsize=(7.5, 1.1 + 1.35 * sum(heights)), layout="constrained")
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})
        axes = dict(zip(panels, rows[:, 0], strict=True))
        for number, (name, entries) in enumerate(runs.items()):
            draw_loss(axes["loss"], entries, colour(number))
            if dev:
                for place, metric in enumerate(dev):
                    steps, values = curve(entries, metric)
                    axes["dev"].plot(steps, values, LOOKS[place % 3], color=colour(number), lw=1.4, ms=4)
            for panel, metric in (("learning rate", "learning_rate"), ("tokens per second", "tokens_per_second")):
                axes[panel].plot(*curve(entries, metric), color=colour(number), lw=1.4, label=name)
        for panel, on in axes.items():
            clean(on, "dev sets" if panel == "dev" else panel)
        axes["tokens per second"].set_ylim(bottom=0)
        axes["tokens per second"].yaxis.set_major_formatter(lambda value, _: _short(value))
        axes["learning rate"].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        step_axis(rows[-1, 0])
        if any(curve(entries, "heldout_loss")[1] for entries in runs.values()):
            held_out = {"marker": "o", "ms": 4.5, "mfc": PAPER, "mew": 1.3, "lw": 1.0}
            _key(axes["loss"], [("in training", {}), ("held out", held_out)], loc="upper right")
        if dev:
            name_metrics(axes["dev"], dev, loc="lower right")
        name_runs(figure, list(runs))
    return figure


def draw_loss(axes: Axes, entries: Sequence[Mapping[str, Any]], colour: str) -> None:
    """Draw the loss in training, and the held-out one where there is one."""
    steps, values = curve(entries, "loss")
    noisy = len(values) > _POINTS
    axes.plot(steps, values, color=colour, lw=0.8 if noisy else 1.4, alpha=0.3 if noisy else 0.75)
    if noisy:
        axes.plot(steps, _smooth(values), color=colour, lw=1.4)
    axes.plot(*curve(entries, "heldout_loss"), "o-", color=colour, lw=1.0, ms=4.5, mfc=PAPER, mew=1.3, zorder=3)


def dev_names(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return the names of the figures of dev sets that any of the runs logged."""
    logged = (name for entries in runs.values() for entry in entries for name in entry)
    return list(dict.fromkeys(name for name in logged if name.startswith("dev_")))


def name_metrics(axes: Axes, names: Sequence[str], **place: Any) -> None:
    """Say which look of a line is which figure of the dev sets."""
    looks = [{"marker": look[0], "ls": look[1:], "ms": 4} for look in LOOKS]
    _key(axes, [(name.replace("_", " "), looks[i % 3]) for i, name in enumerate(names)], **place)


def _key(axes: Axes, lines: Sequence[tuple[str, dict[str, Any]]], **place: Any) -> None:
    """Name kinds of line where they are drawn."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=label, **{"color": INK, "lw": 1.4, **look}) for label, look in lines]
    axes.legend(handles=handles, frameon=False, handlelength=1.8, **place)


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
