"""The held-out masked-language-model loss, over a validation split with fixed masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from bigs_cli.data.hdf5 import Corpus
from bigs_cli.data.hdf5_file import unmask
from bigs_cli.data.manifest import Split
from bigs_cli.data.masking import MaskedBatch, MaskIds, mask_tokens
from bigs_cli.data.validation_rows import Validation
from bigs_cli.models.functional import Apply, Parameters
from bigs_cli.models.losses import classification_sums
from bigs_cli.recipe.schema import Masking

SEED = 0  # of the held-out masks, so that runs with different seeds are comparable


def as_batch(rows: Any) -> dict[str, Any]:
    """Return rows of a loader as a dict of arrays with `input_ids` `[B, L]`; token shards have only this array."""
    return rows if isinstance(rows, dict) else {"input_ids": rows}


def masked_batch(
    key: jax.Array, batch: dict[str, jax.Array], mask_ids: MaskIds | None, masking: Masking
) -> MaskedBatch:
    """Mask a batch of token shards; its array `row` `[B]` has the indices of its rows in the global batch.

    Without `mask_ids`, return a batch of HDF5 files, which is already masked.
    """
    if mask_ids is None:
        return MaskedBatch(*(batch[name] for name in MaskedBatch._fields))
    return mask_tokens(key, batch["row"], batch["input_ids"], mask_ids, masking)


def unigram_loss(train: Corpus, validation: Validation, max_rows: int = 1 << 16) -> float:
    """Return the validation loss (nats per token) of the unigram baseline, which a trained model should beat.

    Token frequencies with add-one smoothing come from at most `max_rows` training rows of `train`. Special tokens are
    not counted.
    """

    def counts(corpus: Corpus, split: Split) -> np.ndarray[Any, np.dtype[np.float64]]:
        rows = corpus.split(split)
        total = np.zeros(corpus.manifest.vocab_size)
        for start in range(0, min(len(rows), max_rows), 1024):
            block = rows.take(np.arange(start, min(start + 1024, len(rows))))
            tokens = unmask(block) if isinstance(block, dict) else block
            total += np.bincount(tokens.ravel(), minlength=len(total))
        total[list(corpus.manifest.special_ids.values())] = 0
        return total

    expected, actual = counts(train, "train") + 1, counts(validation.corpus, validation.split)
    return float(-(actual * np.log(expected / expected.sum())).sum() / max(actual.sum(), 1))


class MaskedLMEvaluator:
    """Measures loss, accuracy and perplexity on token rows; compiled once and called with any parameters."""

    def __init__(
        self,
        apply: Apply,
        mask_ids: MaskIds | None,
        masking: Masking,
        place: Callable[[dict[str, Any]], dict[str, Any]] = lambda batch: batch,
    ) -> None:
        """`mask_ids` and `masking` are arguments of `masked_batch`; `place` puts a batch on the devices."""
        self._place = place

        def sums(params: Parameters, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
            masked = masked_batch(jax.random.key(SEED), batch, mask_ids, masking)
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
        batches: Iterable[tuple[Any, Any]],
        advance: Callable[[int], None] = lambda n: None,
    ) -> dict[str, float]:
        """Return loss (nats per predicted token), accuracy, perplexity = e^loss, and the number of predictions.

        `batches` yields (rows, valid `[B]`), like `data.loader.heldout_batches`.
        """
        totals = dict.fromkeys(("loss", "accuracy", "predictions"), 0.0)
        first = 0
        for rows, valid in batches:
            batch = {**as_batch(rows), "row": first + np.arange(len(valid), dtype=np.int32), "valid": valid}
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
