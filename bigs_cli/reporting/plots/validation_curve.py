"""The validation curve of fine-tuning runs: the dev metrics over the steps, above the training loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bigs_cli.core.errors import RequestError
from bigs_cli.core.metric_names import log_key
from bigs_cli.reporting.metrics_log import curve
from bigs_cli.reporting.plots.style import INK, PAPER, clean, colours, name_figure, step_axis, style
from bigs_cli.reporting.plots.training_curves import DEV_TITLE, Entries, dev_keys, draw_dev, draw_loss, finish_loss

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_validation_curve(runs: Mapping[str, Entries], metric: str, task: str) -> Figure:
    """Draw the dev metrics in percent and the training loss of each run on `task` from its log entries, by its name.

    A circle marks the best value of `metric` (the first in a tie), which selects the checkpoint.

    Raises:
        RequestError: a run has not been evaluated yet.
    """
    for name, entries in runs.items():
        if not dev_keys({name: entries}):
            raise RequestError(
                f"{name} has not been evaluated on its dev set yet, so there is no learning curve to plot."
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
        name_figure(figure, f"{task} learning curve", list(runs))
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
