"""The check of every export: its files are read back, and their outputs must equal those of the model."""

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
from bigs_cli.recipe.groups import Compute

MAX_DIFFERENCE = 5e-5  # of a float32 export from the model, relative to the largest output


def model_run(config: BiGSConfig, flat: Flat) -> Run:
    """Return a function that runs our own model on a batch. If a bare encoder lacks its pooler, zeros are used."""
    import jax

    params = to_unstacked(completed(flat, config))
    apply = jax.jit(make_apply(config, Compute(), unstacked=True))
    return lambda inputs: named_outputs(apply(params, *inputs), OUTPUTS[config.head])


def differences(folder: Path, model: OpenModel, form: Format, settings: Settings) -> dict[str, float]:
    """Return file → largest difference, relative to the largest output, for the files of `form` in `folder`.

    Raises:
        BigsError: an exact file differs by more than 5e-5, or a file or the model itself outputs NaN.
    """
    run_model = model_run(model.config, model.flat)
    expected: dict[int, tuple[Inputs, list[Array]]] = {}
    result: dict[str, float] = {}
    for file, run, lengths, exact in form.read_back(folder, model, settings):
        for length in lengths:
            if length not in expected:
                inputs = inputs_of(model, length)
                expected[length] = inputs, run_model(inputs)
                if not all(np.isfinite(output).all() for output in expected[length][1]):
                    raise nonfinite_error(model.source)
            inputs, outputs = expected[length]
            result[file] = max(
                result.get(file, 0.0),
                largest_difference(outputs, run(inputs), OUTPUTS[model.config.head]),
                key=_nan_last,
            )
        if np.isnan(result[file]) and not exact:
            raise BigsError(
                f"{file} outputs NaN when read back: values of the model exceed the range of this type. "
                "Use --dtype bfloat16, which has the range of float32."
            )
        if exact and not result[file] <= MAX_DIFFERENCE:  # also true for NaN
            raise BigsError(
                f"{file} has different outputs when read back (relative difference {result[file]:.1e}). "
                "This is a bug in bigs: please report it."
            )
    return result


def largest_difference(expected: Sequence[Array], read: Sequence[Array], names: Sequence[str] = ()) -> float:
    """Return the largest difference of any output, relative to the largest value of that output; NaN if any is NaN.

    A `pooler_output` is the tanh of a product with hidden states that are not normalized. Its precision is that of the
    hidden states, so its differences are relative to the largest value of all outputs, if that is larger than its own.
    """
    largest = 0.0
    scales = [float(np.abs(output).max()) or 1.0 for output in expected]
    for i, (ours, theirs) in enumerate(zip(expected, read, strict=True)):
        pooled = list(names[i : i + 1]) == ["pooler_output"]
        scale = max(scales) if pooled else scales[i]
        largest = max(largest, float(np.abs(ours - theirs).max()) / scale, key=_nan_last)
    return largest


def _nan_last(value: float) -> float:
    return float("inf") if np.isnan(value) else value
