"""The held-out masked-language-model loss, over a validation split with fixed masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from bigs_cli.data.corpus import Batch, Corpus, Rows, Validation, unmask
from bigs_cli.data.masking import MaskIds, characters_of, mask_ids, masked_batch
from bigs_cli.models.functional import Apply, Parameters, memoize
from bigs_cli.models.losses import classification_sums
from bigs_cli.recipe.groups import VALIDATION, Masking

SEED = 0  # of the held-out masks, so that runs with different seeds are comparable
_UNIGRAM_ROWS = 1 << 16


def unigram_loss(train: Corpus, validation: Validation) -> float:
    """Return the validation loss (nats per token) of the unigram baseline, which a trained model should beat.

    Token frequencies with add-one smoothing come from at most `_UNIGRAM_ROWS` training rows of `train`. Special tokens
    are not counted.
    """

    def counts(rows: Rows) -> np.ndarray[Any, np.dtype[np.float64]]:
        total = np.zeros(train.manifest.vocab_size)
        for start in range(0, min(len(rows), _UNIGRAM_ROWS), 1024):
            tokens = unmask(rows.take(np.arange(start, min(start + 1024, len(rows)))))
            total += np.bincount(tokens.ravel(), minlength=len(total))
        total[list(train.manifest.special_ids.values())] = 0
        return total

    expected, actual = counts(train.split("train")) + 1, counts(validation.rows)
    return float(-(actual * np.log(expected / expected.sum())).sum() / max(actual.sum(), 1))


@memoize
def _batch_sums(apply: Apply, ids: MaskIds | None, masking: Masking) -> Callable[..., dict[str, jax.Array]]:
    """Return a function from (params, batch, characters) to sums over the predictions.

    They are the summed loss, and the numbers of correct predictions, of predictions, and of characters in the predicted
    tokens; `characters` `[V]` is the number of characters of each token id.
    """

    def sums(params: Parameters, batch: dict[str, jax.Array], characters: jax.Array) -> dict[str, jax.Array]:
        masked = masked_batch(jax.random.key(SEED), batch, ids, masking)
        logits = apply(
            params,
            masked.input_ids,
            masked.attention_mask,
            batch.get("token_type_ids"),
            positions=masked.positions,
        ).logits
        weights = masked.weights * batch["valid"][:, None]
        loss, further = classification_sums(logits, masked.labels, weights)
        length = (characters[masked.labels] * weights).sum()
        return {
            "loss": loss,
            "accuracy": further["accuracy"],
            "predictions": further["weight"],
            "characters": length,
        }

    return sums


class MaskedLMEvaluator:
    """Measures loss, accuracy and perplexity on token rows; compiled once and called with any parameters."""

    def __init__(
        self,
        apply: Apply,
        corpus: Corpus,
        vocab_size: int,
        place: Callable[[dict[str, Any]], dict[str, Any]] = lambda batch: batch,
        masking: Masking = VALIDATION,
    ) -> None:
        """Take a model function with `vocab_size` outputs; `place` puts a batch of rows of `corpus` on the devices."""
        self._place, self._characters = place, characters_of(corpus.tokenizer(), vocab_size)
        self._sums = jax.jit(_batch_sums(apply, mask_ids(corpus, masking, vocab_size), masking))

    def __call__(
        self,
        params: Parameters,
        batches: Iterable[tuple[Batch, Any]],
        advance: Callable[[int], None] = lambda n: None,
    ) -> dict[str, float]:
        """Return loss (nats per predicted token), accuracy, perplexity = e^loss, and the number of predictions.

        `nats_per_character` is the summed loss divided by the number of characters of the predicted tokens, which
        compares models with different vocabularies.

        `batches` yields (rows, valid `[B]`), like `data.loader.heldout_batches`.
        """
        totals = dict.fromkeys(("loss", "accuracy", "predictions", "characters"), 0.0)
        first = 0
        for rows, valid in batches:
            batch = {**rows, "row": first + np.arange(len(valid), dtype=np.int32), "valid": valid}
            for name, value in self._sums(params, self._place(batch), self._characters).items():
                totals[name] += float(value)
            first += len(valid)
            advance(int(valid.sum()))
        count = max(totals["predictions"], 1.0)
        loss = totals["loss"] / count
        return {
            "loss": loss,
            "accuracy": totals["accuracy"] / count,
            "perplexity": math.exp(min(loss, 700.0)),
            "nats_per_character": totals["loss"] / max(totals["characters"], 1.0),
            "predictions": totals["predictions"],
        }
