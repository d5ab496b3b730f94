"""What the layers of a model look at: the convolution kernel of each, forward and backward, by distance in tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.checkpoints.arrays import Flat
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.published import prefix
from bigs_cli.reporting.plots.style import COLOURS, FAINT, INK, clean, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

KERNELS_CAPTION = (
    "Each layer's kernels by distance: the tokens before on the left, those after on the right. Weights are on a "
    "logarithmic scale on both sides of 0, in every panel on its own; the skip D at 0 is left out."
)


def layer_kernels(flat: Flat, config: BiGSConfig, length: int) -> Array:
    """Return the kernels K, without the skip D, of a model's layers: `[layers, 2, L]` float32, forward and backward.

    `flat` holds the parameters by their published names; L is `length`, or all positions where there are fewer.
    """
    import jax.numpy as jnp

    from bigs_cli.models.ssm import SSMParameters, convolution_kernel, discretize

    layers = [f"{prefix(config.head)}encoder/layer/{i}" for i in range(config.num_hidden_layers)]

    def stacked(leaf: str) -> Any:
        return jnp.asarray(np.stack([[flat[f"{layer}/{ssm}/{leaf}"] for ssm in ("fs4", "bs4")] for layer in layers]))

    ssm = SSMParameters(*map(stacked, SSMParameters._fields))
    return np.asarray(convolution_kernel(discretize(ssm), min(length, config.max_position_embeddings)))


def draw_kernels(kernels: Array, title: str) -> Figure:
    """Draw kernels `[layers, 2, L]`, a panel a layer, in reading order: the tokens before on the left of 0.

    The forward kernel weighs the tokens before, the backward one those after. Weights are largest by far next to 0, so
    their axis is logarithmic on both sides of 0, and linear around it. Each panel has its own scale.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    layers, _, L = kernels.shape
    columns = next((few for few in (1, 2, 3) if layers <= few * few), 4)
    rows = math.ceil(layers / columns)
    with style():
        figure = Figure(figsize=(max(5.6, 2.6 * columns), 1.3 + 1.5 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False)
        distance = np.arange(L)
        for number, axes in enumerate(panels.flat):
            if number >= layers:
                axes.set_visible(False)
                continue
            for (colour, sign), kernel in zip(((COLOURS[0], -1), (COLOURS[1], 1)), kernels[number], strict=True):
                axes.plot(sign * distance, kernel, color=colour, lw=1.0)
            clean(axes, "")
            axes.set_title(f"layer {number}", loc="left", fontsize=8, color=INK)
            axes.axvline(0, color=FAINT, lw=0.6, zorder=0)
            _scale_weights(axes, float(np.abs(kernels[number]).max()))
            axes.tick_params(labelsize=7)
            if number % columns == 0:
                axes.set_ylabel("weight", fontsize=7)
            if number + columns >= layers:
                axes.tick_params(labelbottom=True)
                axes.set_xlabel("before ← distance in tokens → after", fontsize=7)
        panels[0, 0].set_xticks([-L + 1, -(L // 2), 0, L // 2, L - 1] if L > 2 else range(1 - L, L))
        panels[0, 0].xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
        lines = [
            Line2D([], [], color=COLOURS[0], lw=2.5, label="forward kernel: tokens before"),
            Line2D([], [], color=COLOURS[1], lw=2.5, label="backward kernel: tokens after"),
        ]
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK)
        figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False, handlelength=1.2)
    return figure


def _scale_weights(axes: Axes, largest: float) -> None:
    """Scale weights logarithmically down to a hundredth of the `largest`, linearly below, with ticks at two decades."""
    if not largest:
        return
    axes.set_yscale("symlog", linthresh=largest / 100)
    axes.set_ylim(-1.6 * largest, 1.6 * largest)
    decade = 10.0 ** math.floor(math.log10(largest))
    axes.set_yticks([-decade, -decade / 10, 0, decade / 10, decade])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
    axes.minorticks_off()
