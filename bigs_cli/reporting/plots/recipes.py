"""The plot of `bigs bench recipes` and of sweeps: a panel per measure, a line per recipe or setting, a dot per seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bigs_cli.reporting.plots.style import FAINT, clean, colours, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 3


def draw_recipes(measures: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw measures, which map a name to the values by recipe: a dot for each seed, and a bar for their mean.

    Recipes without values of a measure have an empty line there.
    """
    from matplotlib.figure import Figure

    recipes = list(dict.fromkeys(recipe for values in measures.values() for recipe in values))
    rows = -(-len(measures) // _COLUMNS)
    with style():
        figure = Figure(figsize=(9.5, 0.3 + rows * (0.75 + 0.24 * len(recipes))), layout="constrained")
        panels = figure.subplots(rows, _COLUMNS, squeeze=False, sharey=True).ravel()
        for axes, (name, values) in zip(panels, measures.items(), strict=False):
            clean(axes, name)
            for row, (recipe, colour) in enumerate(zip(recipes, colours(len(recipes)), strict=True)):
                if not (of := values.get(recipe)):
                    continue
                axes.plot(of, [row] * len(of), "o", color=colour, ms=5, alpha=0.6, mew=0)
                axes.plot([sum(of) / len(of)], [row], "|", color=colour, ms=15, mew=2)
            axes.set_yticks(range(len(recipes)), recipes)
            axes.set_ylim(len(recipes) - 0.5, -0.5)
            axes.grid(axis="x", color=FAINT, lw=0.6)
            axes.margins(x=0.08)
            axes.locator_params(axis="x", nbins=5)
        for axes in panels[len(measures) :]:
            axes.set_visible(False)
    return figure
