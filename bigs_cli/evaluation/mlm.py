"""Held-out masked-language-model loss: the same masks whenever it is asked, over all of the held-out part."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.data.masking import MaskIds, MaskRates, mask_tokens
from bigs_cli.model.functional import Apply, Parameters
from bigs_cli.recipe.schema import Masking

SEED = 0  # of the held-out masks, so that runs compare whatever their own seed


def mask_rates(masking: Masking, length: int) -> MaskRates:
    """Return a recipe's `masking` for rows of `length` tokens, the number of predictions worked out."""
    return MaskRates(masking.rate, masking.predictions(length), masking.mask_fraction, masking.random_fraction)


class MaskedLMEvaluator:
    """Measures loss, accuracy and perplexity on token rows; compiled once, for any parameters."""

    def __init__(self, apply: Apply, special: MaskIds, rates: MaskRates) -> None:
        def sums(params: Parameters, ids: jax.Array, valid: jax.Array, first_row: jax.Array) -> dict[str, jax.Array]:
            rows = first_row + jnp.arange(ids.shape[0])
            batch = mask_tokens(jax.random.key(SEED), 0, rows, ids, special, rates)
            weights = batch.weights * valid[:, None]
            logits = apply(params, batch.input_ids, batch.attention_mask, positions=batch.positions).logits
            chosen = jnp.take_along_axis(logits, batch.labels[..., None], -1)[..., 0]
            loss = (jax.nn.logsumexp(logits, -1) - chosen) * weights
            hits = (logits.argmax(-1) == batch.labels) * weights
            return {"loss": loss.sum(), "accuracy": hits.sum(), "predictions": weights.sum()}

        self._sums = jax.jit(sums)

    def __call__(
        self,
        params: Parameters,
        batches: Iterable[tuple[Any, Any]],
        advance: Callable[[int], None] = lambda n: None,
    ) -> dict[str, float]:
        """Return loss (nats per predicted token), accuracy, perplexity = e^loss, and the number of predictions.

        `batches` yields (ids `[B, L]`, valid `[B]`), as `data.loader.heldout_batches` does.
        """
        totals = dict.fromkeys(("loss", "accuracy", "predictions"), 0.0)
        row = 0
        for ids, valid in batches:
            for name, value in self._sums(params, ids, valid, np.int32(row)).items():
                totals[name] += float(value)
            row += len(ids)
            advance(int(valid.sum()))
        count = max(totals["predictions"], 1.0)
        loss = totals["loss"] / count
        return {
            "loss": loss,
            "accuracy": totals["accuracy"] / count,
            "perplexity": math.exp(min(loss, 700.0)),
            "predictions": totals["predictions"],
        }
