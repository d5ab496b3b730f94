"""`head_init: unit`: scale down the layers of a new head whose outputs would be too large."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.data.encode import Encoded
from bigs_cli.models.encoder import Pooler
from bigs_cli.models.functional import Parameters, make_apply, memoize
from bigs_cli.models.heads import Outputs
from bigs_cli.recipe import BiGSConfig
from bigs_cli.recipe.groups import Compute

Array = np.ndarray[Any, Any]

ROWS = 64
"""Number of examples on which the RMS is measured. This and the next two values are our choice."""
POOLER_SIZE = 1.0
"""Maximum RMS (root mean square) at the input of a new pooler's tanh, small enough for the tanh not to saturate."""
LOGIT_SIZE = 0.1
"""Maximum RMS of a new head's logits. At 1, the initial loss can be twice the chance level."""


def unit_head(
    config: BiGSConfig, compute: Compute, params: Parameters, new: Collection[str], examples: Encoded
) -> Parameters:
    """Return `params` with a head whose initial loss is near the chance level; only layers in `new` change.

    The last hidden state of a pre-norm encoder is an unnormalized sum over its layers. If it is large, a head layer
    with the published initial values has outputs that are far too large: a pooler's tanh saturates and its gradient
    vanishes; a token-classification loss starts at hundreds of nats. Each new layer, in the order of the forward pass,
    is therefore scaled down until the RMS of its outputs over the first rows of `examples` is at most `POOLER_SIZE` or
    `LOGIT_SIZE`: a data-dependent initialization as in Mishkin and Matas 2016 (arXiv 1511.06422).
    The bias of a regression head starts at the mean of the examples' scores.
    """
    if "s4_bert" not in params:  # a bare encoder, which has no head
        return params
    rows = np.arange(min(ROWS, len(examples)))
    batch = examples.batch(rows, len(rows))
    inputs = [batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    # [rows, L, H]; with choices, [rows · choices, L, H]
    outputs = _outputs(config, compute)(params, *inputs)
    hidden = outputs.hidden_states[-1]
    mask = inputs[1].reshape(hidden.shape[:2])
    features, output = (
        np.asarray(hidden, np.float32)[mask > 0],
        "qa_outputs" if "qa_outputs" in params else "classifier",
    )
    if "pooler" in params["s4_bert"]:
        dense = params["s4_bert"]["pooler"]["dense"]
        if "s4_bert/pooler/dense/kernel" in new:
            types = jnp.asarray(inputs[2].reshape(mask.shape))
            pooled = Pooler(config, compute).features(hidden, jnp.asarray(mask), types)
            dense = _scaled(dense, np.asarray(pooled), POOLER_SIZE)
            params = {**params, "s4_bert": {**params["s4_bert"], "pooler": {"dense": dense}}}
            outputs = _outputs(config, compute)(params, *inputs)
        features = np.asarray(outputs.pooler_output, np.float32)
    if f"{output}/kernel" not in new:
        return params
    dense = _scaled(params[output], features, LOGIT_SIZE)
    if examples.labels is not None and examples.labels.dtype.kind == "f":  # a regression
        dense["bias"] = np.full(1, examples.labels.mean(), np.float32)
    return {**params, output: dense}


@memoize
def _outputs(config: BiGSConfig, compute: Compute) -> Callable[..., Outputs]:
    return jax.jit(make_apply(config, compute))


def _scaled(dense: Any, features: Array, size: float) -> dict[str, Any]:
    """Return a dense layer with its kernel scaled down so that the RMS of its outputs is at most `size`."""
    kernel = np.asarray(dense["kernel"])
    excess = float(np.sqrt(np.square(features @ kernel).mean())) / size
    return {**dense, "kernel": kernel / max(excess, 1.0)}
