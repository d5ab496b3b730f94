"""The learning curve of fine-tuning runs: what the dev set gave over the steps, above the loss in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bigs_cli.core.errors import RequestError
from bigs_cli.reporting.metrics_log import curve
from bigs_cli.reporting.pictures.course import LOOKS, dev_names, draw_loss, name_metrics
from bigs_cli.reporting.pictures.style import INK, clean, colour, name_runs, step_axis, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_learning(runs: Mapping[str, Sequence[Mapping[str, Any]]], metric: str) -> Figure:
    """Draw the dev sets' figures in percent and the loss of each run, by its name, from the entries of its log.

    The best measurement of `metric`, by which checkpoints are chosen (the first of equals), is marked.

    Raises:
        RequestError: a run has measured nothing yet.
    """
    for name, entries in runs.items():
        if not dev_names({name: entries}):
            raise RequestError(f"{name} has measured nothing on its dev set yet: there is no learning curve to draw.")
    from matplotlib.figure import Figure

    names = sorted(dev_names(runs), key=lambda name: name != f"dev_{metric}")
    with style():
        figure = Figure(figsize=(7.5, 4.6), layout="constrained")
        dev, loss = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [1.7, 1.0]})
        for number, entries in enumerate(runs.values()):
            draw_loss(loss, entries, colour(number))
            for place, name in enumerate(names):
                steps, values = curve(entries, name)
                shown = [100 * value for value in values]
                dev.plot(steps, shown, LOOKS[place % 3], color=colour(number), lw=1.4, ms=4)
                if place == 0 and shown:
                    best = shown.index(max(shown))
                    dev.plot(
                        steps[best], shown[best], "o", color=colour(number), ms=10, mfc="none", mew=1.4, clip_on=False
                    )
                    near_the_end = 2 * steps[best] > steps[-1]
                    dev.annotate(
                        f"{shown[best]:.1f}",
                        (steps[best], shown[best]),
                        xytext=(-8 if near_the_end else 8, 6),
                        textcoords="offset points",
                        ha="right" if near_the_end else "left",
                        color=INK,
                        fontsize=9,
                    )
        clean(dev, "dev, percent")
        dev.margins(y=0.15)
        low, high = dev.get_ylim()
        if high - low < 1:  # What is less than a point apart is not to look like a leap.
            dev.set_ylim((low + high - 1) / 2, (low + high + 1) / 2)
        clean(loss, "loss in training")
        step_axis(loss)
        name_metrics(dev, names, loc="best")
        name_runs(figure, list(runs))
    return figure
