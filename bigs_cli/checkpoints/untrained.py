"""Detection of heads that were never trained: their weights still have their initial values."""

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
    """Return the dense layers of the head and the pooler that were never trained or are missing from `flat`.

    A layer is untrained if its kernel equals the initial value for `NEW_HEAD_SEED` in one of the data types of weights
    files. No mark in the file is needed, so this also works after a conversion, or after training with another tool.
    """
    kernels = [
        path
        for path in published_shapes(config)
        if path.endswith("/kernel") and path.removeprefix("s4_bert/").startswith(_HEADS)
    ]
    return tuple(
        path.removesuffix("/kernel") for path in kernels if path not in flat or _is_initial(path, flat[path], config)
    )


def check_trained(layers: Sequence[str], config: BiGSConfig, source: str, override: str) -> None:
    """Check that the untrained `layers` do not include the head; `override` names the option that skips this check.

    An untrained pooler is allowed: a classifier may be trained on a frozen pooler, and neither masked-word predictions
    nor embeddings depend on it.

    Raises:
        RequestError: the head has untrained layers.
    """
    head = "cls/predictions/" if config.head == "pretraining" else ("cls/", "classifier", "qa_outputs")
    if any(layer.startswith(head) for layer in layers):
        raise RequestError(
            f"The {config.head} head of {source} was never trained ({listed(layers)}: initial values), so its "
            f"predictions would be random. Fine-tune the model with bigs finetune TASK --from MODEL, or {override}."
        )


def _is_initial(path: str, kernel: Array, config: BiGSConfig) -> bool:
    """Return whether a kernel has its initial value, in a model with a head or in an encoder."""
    plain = path.removeprefix("s4_bert/")
    names = {path, plain, f"s4_bert/{plain}"} if plain.startswith("pooler/") else {path}
    values = [init_parameter(name, kernel.shape, config, NEW_HEAD_SEED) for name in names]
    return any(
        np.array_equal(kernel, value.astype(dtype).astype(np.float32)) for value in values for dtype in FLOATS.values()
    )
