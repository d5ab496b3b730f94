"""`new_pooler: unit`: a pooler that the start model lacks, made to fit hidden states of any size."""

from __future__ import annotations

import jax
import numpy as np

from bigs_cli.data.encode import Encoded
from bigs_cli.model.functional import Parameters, make_apply
from bigs_cli.recipe import BiGSConfig
from bigs_cli.recipe.schema import Compute


def unit_pooler(config: BiGSConfig, compute: Compute, params: Parameters, examples: Encoded) -> Parameters:
    """Return `params` with the pooler's kernel shrunk so that its tanh takes inputs of root mean square 1, at most.

    Nothing normalizes the last hidden state. Where pretraining has let it grow, a pooler drawn at the published size
    answers ±1 to everything and passes no gradient.
    """
    batch = examples.batch(np.arange(len(examples)), len(examples))
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [batch[name].reshape(-1, batch[name].shape[-1]) for name in names]
    encode = make_apply(config.model_copy(update={"head": "encoder"}), compute)
    hidden = np.asarray(jax.jit(encode)(params["s4_bert"], *inputs).last_hidden_state, np.float32)
    mask = inputs[1][..., None]
    mean = (hidden * mask).sum(1) / mask.sum(1)
    encoder = params["s4_bert"]
    dense = encoder["pooler"]["dense"]
    size = float(np.sqrt(np.square(mean @ np.asarray(dense["kernel"])).mean()))
    scaled = {**dense, "kernel": dense["kernel"] / max(size, 1.0)}
    return {**params, "s4_bert": {**encoder, "pooler": {"dense": scaled}}}
