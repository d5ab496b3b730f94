"""The check of every export: what was written, loaded again, gives the outputs of the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bigs_cli.checkpoints.arrays import Array, Flat
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.core.error_messages import nonfinite_error
from bigs_cli.core.errors import BigsError
from bigs_cli.export.forward import OUTPUTS
from bigs_cli.export.settings import Format, Inputs, Run, Settings, inputs_of, named_outputs
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import make_apply
from bigs_cli.models.published import completed, to_unstacked
from bigs_cli.recipe.schema import Compute

LARGEST_DIFFERENCE = 5e-5  # of the largest output, between the model and an export in float32


def model_run(config: BiGSConfig, flat: Flat) -> Run:
    """Return a function that runs our own model on a batch. A bare encoder's absent pooler counts as zeros."""
    import jax

    params = to_unstacked(completed(flat, config))
    apply = jax.jit(make_apply(config, Compute(), unstacked=True))
    return lambda inputs: named_outputs(apply(params, *inputs), OUTPUTS[config.head])


def differences(folder: Path, model: OpenModel, form: Format, settings: Settings) -> dict[str, float]:
    """Return, for every file that `form` wrote into `folder`, its largest difference relative to the largest output.

    Raises:
        BigsError: a file that has to agree with the model differs by more than 5e-5, or any, or the model itself,
            gives NaN.
    """
    ours = model_run(model.config, model.flat)
    expected: dict[int, tuple[Inputs, list[Array]]] = {}
    found: dict[str, float] = {}
    for file, run, lengths, exact in form.read_back(folder, model, settings):
        for length in lengths:
            if length not in expected:
                inputs = inputs_of(model, length)
                expected[length] = inputs, ours(inputs)
                if not all(np.isfinite(output).all() for output in expected[length][1]):
                    raise nonfinite_error(model.source)
            inputs, outputs = expected[length]
            found[file] = max(
                found.get(file, 0.0),
                largest_difference(outputs, run(inputs), OUTPUTS[model.config.head]),
                key=_nan_is_most,
            )
        if np.isnan(found[file]) and not exact:
            raise BigsError(
                f"{file} gives NaN when read back: numbers of the model are too large for these weights. "
                "Use --dtype bfloat16, which has the range of float32."
            )
        if exact and not found[file] <= LARGEST_DIFFERENCE:  # NaN is no agreement either
            raise BigsError(
                f"{file} gives other outputs when read back (relative difference {found[file]:.1e}). "
                "This is a fault of bigs: please report it."
            )
    return found


def largest_difference(expected: Sequence[Array], read: Sequence[Array], names: Sequence[str] = ()) -> float:
    """Return the largest difference of any output, relative to the largest of that output; NaN where one is.

    A `pooler_output` is the tanh of a product with hidden states that nothing normalizes, and is right to their last
    digits, not its own: its differences are relative to the largest of them, where that is more.
    """
    worst = 0.0
    scales = [float(np.abs(ours).max()) or 1.0 for ours in expected]
    for place, (ours, theirs) in enumerate(zip(expected, read, strict=True)):
        pooled = list(names[place : place + 1]) == ["pooler_output"]
        scale = max(scales) if pooled else scales[place]
        worst = max(worst, float(np.abs(ours - theirs).max()) / scale, key=_nan_is_most)
    return worst


def _nan_is_most(value: float) -> float:
    return float("inf") if np.isnan(value) else value
