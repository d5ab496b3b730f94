"""Heads that were never trained: their weights still have the values that a new model starts with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bigs_cli.checkpoints.arrays import FLOATS, Array
from bigs_cli.core.errors import RequestError, listed
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.init import init_parameter
from bigs_cli.models.published import published_shapes

NEW_HEAD_SEED = 0
"""The seed of the parameters that `from_pretrained` initializes."""

_HEADS = ("pooler/", "cls/", "classifier/", "qa_outputs/")


def untrained_layers(flat: Mapping[str, Array], config: BiGSConfig) -> tuple[str, ...]:
    """Return the dense layers of the head and the pooler in `flat` that were never trained, or are absent.

    A layer counts as untrained if its kernel equals the initial value for `NEW_HEAD_SEED`, in any of the number
    formats that weights are stored in. This needs no mark in the file, so it holds for a model that was saved and
    converted, and no longer once it has been trained, by whatever tool.
    """
    kernels = [
        path
        for path in published_shapes(config)
        if path.endswith("/kernel") and path.removeprefix("s4_bert/").startswith(_HEADS)
    ]
    return tuple(
        path.removesuffix("/kernel") for path in kernels if path not in flat or _is_initial(path, flat[path], config)
    )


def check_trained(layers: Sequence[str], config: BiGSConfig, source: str, otherwise: str) -> None:
    """Refuse to answer with a head that has untrained `layers`; `otherwise` names the option that allows it.

    A pooler alone does not matter: a classifier can be trained on one that passes no gradient, a pretraining model
    predicts words without it, and embeddings do not depend on it.

    Raises:
        RequestError: the head itself has untrained layers.
    """
    own = "cls/predictions/" if config.head == "pretraining" else ("cls/", "classifier", "qa_outputs")
    if any(layer.startswith(own) for layer in layers):
        raise RequestError(
            f"The {config.head} head of {source} was never trained ({listed(layers)}: initial values), so its answers "
            f"would be random. Fine-tune the model first, with bigs finetune TASK --from MODEL, or {otherwise}."
        )


def _is_initial(path: str, kernel: Array, config: BiGSConfig) -> bool:
    """Return whether a kernel has the initial value it has in a headed model or in a bare encoder."""
    plain = path.removeprefix("s4_bert/")
    names = {path, plain, f"s4_bert/{plain}"} if plain.startswith("pooler/") else {path}
    values = [init_parameter(name, kernel.shape, config, NEW_HEAD_SEED) for name in names]
    return any(
        np.array_equal(kernel, value.astype(dtype).astype(np.float32)) for value in values for dtype in FLOATS.values()
    )
