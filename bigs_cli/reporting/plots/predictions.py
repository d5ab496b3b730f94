"""Predictions against labels: a confusion matrix of classes, or a scatter plot of scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.reporting.plots.style import COLOURS, FAINT, INK, clean, head, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

ON_COLOUR = "#fefefe"  # not `PAPER`, which becomes dark on a dark page
_MAX_WRITTEN = 20  # classes: with more, the numbers in the cells would overlap
_MAX_VECTORS = 3000  # points: more are rasterized in an SVG


def draw_confusion(labels: Array, predictions: Array, names: Sequence[str], title: str) -> Figure:
    """Draw the confusion matrix of class ids `[n]`: labels in rows, predictions in columns, counts and percentages."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from sklearn.metrics import confusion_matrix

    size = len(names)
    counts = confusion_matrix(labels, predictions, labels=range(size))
    of_label = counts.sum(1, keepdims=True)
    share = counts / np.maximum(of_label, 1)
    # The colour map starts transparent, so that it suits a page of any colour.
    fills = LinearSegmentedColormap.from_list("share", [(0, 0.447, 0.698, 0.03), (0, 0.447, 0.698, 1.0)])
    cell = 1.15 if size <= 4 else max(0.42, 0.95 - 0.04 * size) if size <= _MAX_WRITTEN else 0.22
    longest = max(map(len, names))
    across = longest * 0.075 < cell  # The names fit below their columns.
    with style():
        beside = 0.9 + 0.075 * max(longest, 6)
        figure = Figure(
            figsize=(max(3.4, beside + cell * size), 1.15 + cell * size + (0.2 if across else 0.06 * longest)),
            layout="constrained",
        )
        axes = figure.subplots()
        axes.pcolormesh(share, cmap=fills, vmin=0, vmax=1, edgecolors=FAINT, linewidth=0.6)
        axes.set(aspect="equal", xlabel="prediction", ylabel="label")
        axes.invert_yaxis()
        middles = np.arange(size) + 0.5
        axes.set_xticks(middles, names, rotation=0 if across else 45, ha="center" if across else "right")
        totals = [f"\n{n:,} in total" if size <= 8 else "" for n in of_label[:, 0]]
        axes.set_yticks(middles, [name + total for name, total in zip(names, totals, strict=True)])
        if not across:
            for text in axes.get_xticklabels():
                text.set_rotation_mode("anchor")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if size <= _MAX_WRITTEN:
            font = max(6.5, 9 - 0.15 * size)
            for row, column in np.ndindex(size, size):
                percent = f"\n{100 * share[row, column]:.0f}%" if size <= 8 else ""
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    f"{counts[row, column]:,}{percent}",
                    ha="center",
                    va="center",
                    color=ON_COLOUR if share[row, column] > 0.55 else INK,
                    fontsize=font,
                )
        head(axes, title)
    return figure


def draw_scatter(labels: Array, predictions: Array, title: str) -> Figure:
    """Draw scores `[n]` as points with the label on x and the prediction on y, and the diagonal x = y."""
    from matplotlib.figure import Figure

    low = float(min(labels.min(), predictions.min()))
    high = float(max(labels.max(), predictions.max()))
    edge = 0.04 * ((high - low) or 1.0)
    span = (low - edge, high + edge)
    with style():
        figure = Figure(figsize=(4.6, 4.8), layout="constrained")
        axes = figure.subplots()
        clean(axes, title)
        axes.grid(axis="x", color=FAINT, lw=0.6)
        axes.plot(span, span, color=INK, lw=0.8, ls=(0, (4, 3)))
        many = len(labels) > _MAX_VECTORS
        axes.scatter(labels, predictions, s=11, color=COLOURS[0], alpha=0.35, lw=0, rasterized=many)
        axes.set(xlim=span, ylim=span, aspect="equal", xlabel="label", ylabel="prediction")
    return figure
