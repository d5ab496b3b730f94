"""The export formats: each a function (folder, model) that writes a folder other tools load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bigs_cli.checkpoint.arrays import Flat
from bigs_cli.checkpoint.folder import WEIGHTS, new_folder, read_model, write_flax, write_torch
from bigs_cli.checkpoint.names import expected_shapes, optional_paths, to_tree
from bigs_cli.checkpoint.resolve import OpenModel
from bigs_cli.core.errors import BigsError, RequestError, did_you_mean
from bigs_cli.data.tokenizer import load_tokenizer, save_tokenizer
from bigs_cli.model.functional import make_apply
from bigs_cli.recipe.config import BiGSConfig
from bigs_cli.recipe.schema import Compute

Writer = Callable[[Path, BiGSConfig, Flat], None]

FORMATS: dict[str, Writer] = {
    "flax": write_flax,  # config.json, flax_model.msgpack: what the original code loads
    "torch": write_torch,  # config.json, model.safetensors, pytorch_model.bin: what its Torch port loads
}
LARGEST_DIFFERENCE = 5e-5  # of the largest output, between the model and its export


def export(model: OpenModel, form: str, output: Path) -> float:
    """Write `model` to the new folder `output`, read every file of it back, and return how far outputs differ.

    The difference is relative to the largest output, on one batch of random ids. Nothing is left at `output`
    if it exceeds 5e-5.

    Raises:
        RequestError: the format is unknown, or `output` is in use.
        BigsError: what was read back differs.
    """
    if form not in FORMATS:
        raise RequestError(f"There is no format '{form}'.{did_you_mean(form, FORMATS)} Formats: {', '.join(FORMATS)}.")
    with new_folder(output) as draft:
        FORMATS[form](draft, model.config, model.flat)
        if model.tokenizer is not None:
            save_tokenizer(load_tokenizer(model.tokenizer), draft)
        written = [name for name in WEIGHTS if (draft / name).is_file()]
        differences = [largest_difference(model.config, model.flat, read_model(draft, name).flat) for name in written]
        difference = float(np.max(differences))
        if not difference <= LARGEST_DIFFERENCE:  # NaN is no agreement either
            raise BigsError(
                f"The {form} export gives other outputs when read back (relative difference {difference:.1e}). "
                "This is a fault of bigs: please report it."
            )
    return difference


def largest_difference(config: BiGSConfig, ours: Flat, theirs: Flat) -> float:
    """Return the largest difference of any output between two sets of parameters, relative to the largest output.

    It is NaN where an output is. A pooler that a bare encoder's file lacks counts as zeros in both.
    """
    import jax

    apply = jax.jit(make_apply(config, Compute()))
    length = min(config.max_position_embeddings, 64)
    shape = (2, 2, length) if config.head == "multiple-choice" else (2, length)
    ids = np.random.default_rng(0).integers(1, config.vocab_size, shape)
    ids[..., length - length // 4 :] = config.pad_token_id
    shapes = expected_shapes(config)
    absent = {path: np.zeros(shapes[path], np.float32) for path in optional_paths(config)}
    outputs = [jax.tree.leaves(apply(to_tree({**absent, **flat}, config), ids)) for flat in (ours, theirs)]
    worst = np.float32(0)
    for expected, read in zip(*outputs, strict=True):
        scale = np.abs(np.asarray(expected)).max() or 1.0
        worst = np.maximum(worst, np.abs(np.asarray(expected) - np.asarray(read)).max() / scale)
    return float(worst)
