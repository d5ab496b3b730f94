"""Held-out masked-language-model loss: the same masks whenever it is asked, over all of the held-out part."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.data.masking import MaskIds, mask_tokens
from bigs_cli.data.shards import Shards
from bigs_cli.model.functional import Apply, Parameters
from bigs_cli.model.losses import classification_sums
from bigs_cli.recipe.schema import Masking

SEED = 0  # of the held-out masks, so that runs compare whatever their own seed


def unigram_loss(shards: Shards, most_rows: int = 1 << 16) -> float:
    """Return the held-out loss (nats per token) of knowing only how often each word occurs: what to beat.

    Frequencies, plus one for every word, are those of at most `most_rows` training rows; special tokens do not count.
    """

    def counts(split: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        rows = shards.split(split)
        total = np.zeros(shards.manifest.vocab_size)
        for start in range(0, min(len(rows), most_rows), 1024):
            block = np.concatenate([rows[i] for i in range(start, min(start + 1024, len(rows)))])
            total += np.bincount(block, minlength=len(total))
        total[list(shards.manifest.special_ids.values())] = 0
        return total

    train, held_out = counts("train") + 1, counts("heldout")
    return float(-(held_out * np.log(train / train.sum())).sum() / max(held_out.sum(), 1))


class MaskedLMEvaluator:
    """Measures loss, accuracy and perplexity on token rows; compiled once, for any parameters."""

    def __init__(self, apply: Apply, special: MaskIds, masking: Masking) -> None:
        def sums(params: Parameters, ids: jax.Array, valid: jax.Array, first_row: jax.Array) -> dict[str, jax.Array]:
            rows = first_row + jnp.arange(ids.shape[0])
            batch = mask_tokens(jax.random.key(SEED), rows, ids, special, masking)
            weights = batch.weights * valid[:, None]
            logits = apply(params, batch.input_ids, batch.attention_mask, positions=batch.positions).logits
            loss, further = classification_sums(logits, batch.labels, weights)
            return {"loss": loss, "accuracy": further["accuracy"], "predictions": further["weight"]}

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
