"""Held-out masked-language-model loss, over the whole validation split and with the same masks every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from bigs_cli.data.corpus import Batch, Corpus, Rows, Validation, unmask
from bigs_cli.data.masking import MaskIds, masked_batch
from bigs_cli.models.functional import Apply, Parameters
from bigs_cli.models.losses import classification_sums
from bigs_cli.recipe.schema import Masking

SEED = 0  # of the held-out masks, so that runs compare whatever their own seed


def unigram_loss(train: Corpus, validation: Validation, most_rows: int = 1 << 16) -> float:
    """Return the validation loss (nats per token) of knowing only how often each word occurs: what to beat.

    Frequencies, plus one for every word, are those of at most `most_rows` training rows of `train`; special tokens do
    not count.
    """

    def counts(rows: Rows) -> np.ndarray[Any, np.dtype[np.float64]]:
        total = np.zeros(train.manifest.vocab_size)
        for start in range(0, min(len(rows), most_rows), 1024):
            tokens = unmask(rows.take(np.arange(start, min(start + 1024, len(rows)))))
            total += np.bincount(tokens.ravel(), minlength=len(total))
        total[list(train.manifest.special_ids.values())] = 0
        return total

    known, met = counts(train.split("train")) + 1, counts(validation.rows)
    return float(-(met * np.log(known / known.sum())).sum() / max(met.sum(), 1))


class MaskedLMEvaluator:
    """Measures loss, accuracy and perplexity on token rows; compiled once, for any parameters."""

    def __init__(
        self,
        apply: Apply,
        special: MaskIds | None,
        masking: Masking,
        place: Callable[[dict[str, Any]], dict[str, Any]] = lambda batch: batch,
    ) -> None:
        """`special` and `masking` are for `masked_batch`; `place` lays a batch and `valid` on the devices."""
        self._place = place

        def sums(params: Parameters, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
            masked = masked_batch(jax.random.key(SEED), batch, special, masking)
            logits = apply(
                params,
                masked.input_ids,
                masked.attention_mask,
                batch.get("token_type_ids"),
                positions=masked.positions,
            ).logits
            loss, further = classification_sums(logits, masked.labels, masked.weights * batch["valid"][:, None])
            return {"loss": loss, "accuracy": further["accuracy"], "predictions": further["weight"]}

        self._sums = jax.jit(sums)

    def __call__(
        self,
        params: Parameters,
        batches: Iterable[tuple[Batch, Any]],
        advance: Callable[[int], None] = lambda n: None,
    ) -> dict[str, float]:
        """Return loss (nats per predicted token), accuracy, perplexity = e^loss, and the number of predictions.

        `batches` yields (rows, valid `[B]`), as `data.loader.heldout_batches` does.
        """
        totals = dict.fromkeys(("loss", "accuracy", "predictions"), 0.0)
        first = 0
        for rows, valid in batches:
            batch = {**rows, "row": first + np.arange(len(valid), dtype=np.int32), "valid": valid}
            for name, value in self._sums(params, self._place(batch)).items():
                totals[name] += float(value)
            first += len(valid)
            advance(int(valid.sum()))
        count = max(totals["predictions"], 1.0)
        loss = totals["loss"] / count
        return {
            "loss": loss,
            "accuracy": totals["accuracy"] / count,
            "perplexity": math.exp(min(loss, 700.0)),
            "predictions": totals["predictions"],
        }
