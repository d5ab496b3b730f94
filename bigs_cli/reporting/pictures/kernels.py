"""What the layers of a model look at: the convolution kernel of each, forward and backward, by distance in tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.checkpoint.arrays import Flat
from bigs_cli.checkpoint.names import prefix
from bigs_cli.recipe.config import BiGSConfig
from bigs_cli.reporting.pictures.style import COLOURS, FAINT, INK, clean, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]


def layer_kernels(flat: Flat, config: BiGSConfig, length: int) -> Array:
    """Return the kernels K, without the skip D, of a model's layers: `[layers, 2, L]` float32, forward and backward.

    `flat` holds the parameters by their published names; L is `length`, or all positions where there are fewer.
    """
    import jax.numpy as jnp

    from bigs_cli.model.kernel import SSMParameters, convolution_kernel, discretize

    layers = [f"{prefix(config.head)}encoder/layer/{i}" for i in range(config.num_hidden_layers)]

    def stacked(leaf: str) -> Any:
        return jnp.asarray(np.stack([[flat[f"{layer}/{ssm}/{leaf}"] for ssm in ("fs4", "bs4")] for layer in layers]))

    ssm = SSMParameters(*map(stacked, SSMParameters._fields))
    return np.asarray(convolution_kernel(discretize(ssm), min(length, config.max_position_embeddings)))


def draw_kernels(kernels: Array, title: str) -> Figure:
    """Draw kernels `[layers, 2, L]`, a panel a layer: forward to the right of 0, backward to the left.

    The published figure (arXiv 2212.10544) shows them so. Each panel has its own scale: the shapes are to be seen.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    layers, _, L = kernels.shape
    columns = next((few for few in (1, 2, 3) if layers <= few * few), 4)
    rows = math.ceil(layers / columns)
    with style():
        figure = Figure(figsize=(max(4.6, 2.35 * columns), 0.95 + 1.3 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False)
        distance = np.arange(L)
        for number, axes in enumerate(panels.flat):
            if number >= layers:
                axes.set_visible(False)
                continue
            for (colour, sign), kernel in zip(((COLOURS[0], 1), (COLOURS[1], -1)), kernels[number], strict=True):
                axes.plot(sign * distance, kernel, color=colour, lw=1.0)
            clean(axes, "")
            axes.set_title(f"layer {number}", loc="left", fontsize=8, color=INK)
            axes.axvline(0, color=FAINT, lw=0.6, zorder=0)
            axes.locator_params(axis="y", nbins=3)
            axes.tick_params(labelsize=7)
            if number + columns >= layers:
                axes.tick_params(labelbottom=True)
        panels[0, 0].set_xticks([-L + 1, 0, L - 1] if L > 1 else [0])
        panels[0, 0].xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
        lines = [
            Line2D([], [], color=COLOURS[1], lw=2.5, label="backward: so many tokens ahead"),
            Line2D([], [], color=COLOURS[0], lw=2.5, label="forward: so many tokens before"),
        ]
        figure.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold", color=INK)
        figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False, handlelength=1.2)
    return figure
