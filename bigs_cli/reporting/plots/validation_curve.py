"""The learning curve of fine-tuning runs: what the dev set gave over the steps, above the loss in training."""

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


def draw_learning(runs: Mapping[str, Entries], metric: str, task: str) -> Figure:
    """Draw the dev sets' metrics in percent and the loss of each run on `task`, by its name, from its log.

    The best measurement of `metric`, by which checkpoints are chosen (the first of equals), is marked.

    Raises:
        RequestError: a run has measured nothing yet.
    """
    for name, entries in runs.items():
        if not dev_keys({name: entries}):
            raise RequestError(f"{name} has measured nothing on its dev set yet: there is no learning curve to draw.")
    from matplotlib.figure import Figure

    chosen_by = log_key("dev", metric)
    keys = sorted(dev_keys(runs), key=lambda key: key != chosen_by)
    with style():
        figure = Figure(figsize=(7.5, 4.9), layout="constrained")
        dev, loss = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [1.7, 1.0]})
        draw_dev(dev, runs, keys)
        for entries, colour in zip(runs.values(), colours(len(runs)), strict=True):
            draw_loss(loss, entries, colour)
            _mark_best(dev, entries, chosen_by, colour)
        clean(dev, DEV_TITLE)
        dev.margins(y=0.15)
        low, high = dev.get_ylim()
        if high - low < 1:  # What is less than a point apart is not to look like a leap.
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
    place = (steps[best], 100 * values[best])
    axes.plot(*place, "o", color=colour, ms=10, mfc="none", mew=1.4, clip_on=False)
    near_the_end = 2 * steps[best] > steps[-1]
    axes.annotate(
        f"{place[1]:.1f}",
        place,
        xytext=(-8 if near_the_end else 8, 6),
        textcoords="offset points",
        ha="right" if near_the_end else "left",
        color=INK,
        fontsize=9,
        bbox={"fc": PAPER, "ec": "none", "pad": 1.0},
    )
