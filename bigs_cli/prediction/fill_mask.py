"""Fill-mask: the most probable words for every [MASK] of a text, and the text with the best words filled in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.core.wording import printable
from bigs_cli.data.encode import Encoded, encode_texts
from bigs_cli.data.tokenizer import MASK
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.heads import Outputs
from bigs_cli.prediction.settings import Settings
from bigs_cli.tasks.items import TEXT, Item
from bigs_cli.tasks.types.base import Pipeline, percent_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]
MASKS_PER_ROW = 8
"""Masks per row. A text with more masks becomes several rows, so that only two widths are compiled."""


@dataclass(frozen=True, kw_only=True)
class Masked(Encoded):
    """Encoded texts, with up to `MASKS_PER_ROW` masks to predict per row.

    `examples` `[n]` is the index of the text of each row, ascending. The first `counts` `[n]` entries of
    `mask_positions` `[n, MASKS_PER_ROW]` are the positions of its masks.
    """

    examples: Array
    mask_positions: Array
    counts: Array

    @property
    def groups(self) -> Array:
        """The group of each row: rows with one mask need a much smaller product with the vocabulary than others."""
        return (self.counts > 1).astype(int)

    def batch(self, rows: Array, size: int) -> dict[str, Array]:
        """Return the arrays of `Encoded.batch`, and positions `[size, 1 or MASKS_PER_ROW]`."""
        width = MASKS_PER_ROW if self.counts[rows].max() > 1 else 1
        positions = np.zeros((size, width), np.int32)
        positions[: len(rows)] = self.mask_positions[rows, :width]
        return {**super().batch(rows, size), "positions": positions}


class FillMask(Pipeline):
    """The `Pipeline` of masked-LM and pretraining heads."""

    takes = TEXT
    headers = ("filled", "mask", "word", "probability")

    def __init__(self, config: BiGSConfig, settings: Settings, tokenizer: Tokenizer) -> None:
        self._top, self._tokenizer = min(settings.top, config.vocab_size), tokenizer

    def encode_items(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Masked:
        """Encode texts.

        Raises:
            RequestError: a text has no [MASK], or a [MASK] beyond `length` tokens.
        """
        encoded = encode_texts(tokenizer, [item.text for item in items], None, length)
        masked = encoded.ids == tokenizer.token_to_id(MASK)
        rows: list[Array] = []
        examples: list[int] = []
        positions: list[Array] = []
        for i, item in enumerate(items):
            start, end = encoded.starts[i], encoded.starts[i + 1]
            found = np.flatnonzero(masked[start:end])
            expected = item.text.count(MASK)
            if not expected:
                hint = " (in capitals)" if MASK in item.text.upper() else ""
                raise RequestError(
                    f"{item.place} has no {MASK}: write {MASK}{hint} where a word is to be predicted, in "
                    f"'{printable(item.text, 60)}'."
                )
            if len(found) < expected:
                raise RequestError(
                    f"{item.place} is too long: it has a {MASK} beyond the {length} tokens that are read."
                )
            for first in range(0, len(found), MASKS_PER_ROW):
                rows.append(encoded.ids[start:end])
                examples.append(i)
                positions.append(found[first : first + MASKS_PER_ROW])
        counts = np.array([len(row) for row in positions])
        mask_positions = np.zeros((len(positions), MASKS_PER_ROW), np.int32)
        for padded, row in zip(mask_positions, positions, strict=True):
            padded[: len(row)] = row
        starts = np.cumsum([0, *map(len, rows)])
        return Masked(
            np.concatenate(rows),
            starts,
            np.diff(starts),
            length,
            cut=encoded.cut,
            examples=np.array(examples),
            mask_positions=mask_positions,
            counts=counts,
        )

    def scores(self, outputs: Outputs) -> tuple[jax.Array, jax.Array]:
        """Return probabilities and ids, both `[B, MASKS_PER_ROW, top]`, of the most probable words at the masks."""
        logits = outputs["prediction_logits"] if "prediction_logits" in outputs else outputs["logits"]
        best, ids = jax.lax.top_k(logits, self._top)
        probabilities = jnp.exp(best - jax.nn.logsumexp(logits, axis=-1, keepdims=True))
        padding = ((0, 0), (0, MASKS_PER_ROW - logits.shape[1]), (0, 0))
        return jnp.pad(probabilities, padding), jnp.pad(ids, padding)

    def answer_items(self, items: Sequence[Item], inputs: Encoded, scores: Any, top: int) -> Iterator[dict[str, Any]]:
        """Yield `filled`, the completed text, and `masks`: the best words and their probabilities for each mask."""
        masked, (probabilities, ids) = cast(Masked, inputs), scores
        masks: list[list[list[dict[str, Any]]]] = [[] for _ in items]
        for row, example in enumerate(masked.examples.tolist()):
            count = int(masked.counts[row])
            masks[example] += [
                [{"token": self._word(i), "probability": round(p, 6)} for i, p in zip(*mask, strict=True)]
                for mask in zip(ids[row, :count].tolist(), probabilities[row, :count].tolist(), strict=True)
            ]
        for item, found in zip(items, masks, strict=True):
            yield {"filled": _fill(item.text, [mask[0]["token"] for mask in found]), "masks": found}

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield one row per word of each mask."""
        first = printable(answer["filled"], 100)
        for number, mask in enumerate(answer["masks"], 1):
            for rank, word in enumerate(mask):
                probability = percent_text(word["probability"])
                yield first, "" if rank else str(number), printable(word["token"], 60), probability
                first = ""

    def _word(self, token: int) -> str:
        # The vocabulary of a model may have padding rows without a word.
        return self._tokenizer.id_to_token(token) or f"[{token}]"


def _fill(text: str, words: Sequence[str]) -> str:
    """Return `text` with its masks replaced; a word piece ("##ing") is joined to the preceding text."""
    before, *rest = re.split(re.escape(MASK), text)
    for word, after in zip(words, rest, strict=True):
        before = f"{before.rstrip()}{word[2:]}{after}" if word.startswith("##") else f"{before}{word}{after}"
    return before
