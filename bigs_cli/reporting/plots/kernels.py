"""The convolution kernels of the layers of a model, forward and backward, by distance in tokens."""

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
    "The kernels of each layer by distance: preceding tokens on the left, following tokens on the right. Each panel "
    "has its own scale, which is logarithmic on both sides of 0. The skip D at distance 0 is left out."
)


def layer_kernels(flat: Flat, config: BiGSConfig, length: int) -> Array:
    """Return the kernels K, without the skip D, of the layers of a model: `[layers, 2, L]` float32, forward, backward.

    `flat` maps published paths to parameters. L is `length`, limited by the number of positions.
    """
    import jax.numpy as jnp

    from bigs_cli.models.ssm import SSMParameters, convolution_kernel, discretize

    layers = [f"{prefix(config.head)}encoder/layer/{i}" for i in range(config.num_hidden_layers)]

    def stacked(leaf: str) -> Any:
        return jnp.asarray(np.stack([[flat[f"{layer}/{ssm}/{leaf}"] for ssm in ("fs4", "bs4")] for layer in layers]))

    ssm = SSMParameters(*map(stacked, SSMParameters._fields))
    return np.asarray(convolution_kernel(discretize(ssm), min(length, config.max_position_embeddings)))


def draw_kernels(kernels: Array, title: str) -> Figure:
    """Draw kernels `[layers, 2, L]` with one panel per layer, in reading order.

    The forward kernel, left of 0, weighs the preceding tokens; the backward kernel, right of 0, the following ones. The
    weights near 0 are much larger than the others, so their axis is logarithmic on both sides of 0 and linear around
    it. Each panel has its own scale.
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
                axes.set_xlabel("preceding ← distance in tokens → following", fontsize=7)
        panels[0, 0].set_xticks([-L + 1, -(L // 2), 0, L // 2, L - 1] if L > 2 else range(1 - L, L))
        panels[0, 0].xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
        lines = [
            Line2D([], [], color=COLOURS[0], lw=2.5, label="forward kernel: preceding tokens"),
            Line2D([], [], color=COLOURS[1], lw=2.5, label="backward kernel: following tokens"),
        ]
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK)
        figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False, handlelength=1.2)
    return figure


def _scale_weights(axes: Axes, largest: float) -> None:
    """Set a scale that is logarithmic above a hundredth of `largest` and linear below, with ticks at two decades."""
    if not largest:
        return
    axes.set_yscale("symlog", linthresh=largest / 100)
    axes.set_ylim(-1.6 * largest, 1.6 * largest)
    decade = 10.0 ** math.floor(math.log10(largest))
    axes.set_yticks([-decade, -decade / 10, 0, decade / 10, decade])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
    axes.minorticks_off()
