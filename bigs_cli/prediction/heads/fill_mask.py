"""Masked words: for every [MASK] of a text the likeliest words, and the text with the likeliest in their places."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.encode import Encoded, encode_texts
from bigs_cli.data.tokenizer import MASK
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.heads import Outputs
from bigs_cli.prediction.heads.answerer import percent, shown
from bigs_cli.prediction.item import Item, Takes
from bigs_cli.prediction.settings import Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]
MOST = 8
"""Masks asked at once in a row; a text with more is several rows, so that there are but two widths to compile."""


@dataclass(frozen=True, kw_only=True)
class Masked(Encoded):
    """Texts with up to `MOST` masks asked in each row.

    `examples` `[n]` is the text of each row, ascending; `places` `[n, MOST]` are the positions of the masks, of which
    the first `counts` `[n]` count.
    """

    examples: Array
    places: Array
    counts: Array

    @property
    def groups(self) -> Array:
        """Rows with one mask, and rows with more: the vocabulary's product is by far the smaller for the first."""
        return (self.counts > 1).astype(int)

    def batch(self, rows: Array, size: int, trim: bool = False) -> dict[str, Array]:
        """Return what `Encoded.batch` does, and positions `[size, 1 or MOST]`."""
        width = MOST if self.counts[rows].max() > 1 else 1
        positions = np.zeros((size, width), np.int32)
        positions[: len(rows)] = self.places[rows, :width]
        return {**super().batch(rows, size, trim), "positions": positions}


class FillMask:
    """An `Answerer` for masked-lm and pretraining heads."""

    takes: Takes = "text"
    by_token = False
    headers = ("filled", "mask", "word", "probability")

    def __init__(self, config: BiGSConfig, settings: Settings, tokenizer: Tokenizer) -> None:
        self._top, self._tokenizer = min(settings.top, config.vocab_size), tokenizer

    def encode(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Masked:
        """Encode texts.

        Raises:
            RequestError: a text has no [MASK], or one beyond `length`.
        """
        made = encode_texts(tokenizer, [item.text for item in items], None, length)
        masked = made.ids == tokenizer.token_to_id(MASK)
        rows: list[Array] = []
        examples: list[int] = []
        places: list[Array] = []
        for i, item in enumerate(items):
            start, end = made.starts[i], made.starts[i + 1]
            found = np.flatnonzero(masked[start:end])
            wanted = item.text.count(MASK)
            if not wanted:
                hint = " (in capitals)" if MASK in item.text.upper() else ""
                raise RequestError(
                    f"{item.place} has no {MASK}: write {MASK}{hint} where a word is to be predicted, in "
                    f"'{shown(item.text)}'."
                )
            if len(found) < wanted:
                raise RequestError(
                    f"{item.place} is too long: a {MASK} of it lies beyond the {length} tokens that are read."
                )
            for first in range(0, len(found), MOST):
                rows.append(made.ids[start:end])
                examples.append(i)
                places.append(found[first : first + MOST])
        counts = np.array([len(some) for some in places])
        filled = np.zeros((len(places), MOST), np.int32)
        for place, some in zip(filled, places, strict=True):
            place[: len(some)] = some
        starts = np.cumsum([0, *map(len, rows)])
        return Masked(
            np.concatenate(rows),
            starts,
            np.diff(starts),
            length,
            cut=made.cut,
            examples=np.array(examples),
            places=filled,
            counts=counts,
        )

    def scores(self, outputs: Outputs) -> tuple[jax.Array, jax.Array]:
        """Return probabilities and ids, both `[B, MOST, top]`, of the likeliest words at the positions asked."""
        logits = outputs["prediction_logits"] if "prediction_logits" in outputs else outputs["logits"]
        best, ids = jax.lax.top_k(logits, self._top)
        shares = jnp.exp(best - jax.nn.logsumexp(logits, axis=-1, keepdims=True))
        missing = ((0, 0), (0, MOST - logits.shape[1]), (0, 0))
        return jnp.pad(shares, missing), jnp.pad(ids, missing)

    def answers(self, items: Sequence[Item], inputs: Encoded, scores: Any) -> Iterator[dict[str, Any]]:
        """Yield `filled`, and `masks`: for each mask its words with their probabilities, the likeliest first."""
        made, (shares, ids) = cast(Masked, inputs), scores
        masks: list[list[list[dict[str, Any]]]] = [[] for _ in items]
        for row, example in enumerate(made.examples.tolist()):
            count = int(made.counts[row])
            masks[example] += [
                [{"token": self._word(i), "probability": round(share, 6)} for i, share in zip(*mask, strict=True)]
                for mask in zip(ids[row, :count].tolist(), shares[row, :count].tolist(), strict=True)
            ]
        for item, found in zip(items, masks, strict=True):
            yield {"filled": _filled(item.text, [mask[0]["token"] for mask in found]), "masks": found}

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield a row for each word of each mask."""
        first = shown(answer["filled"], 100)
        for number, mask in enumerate(answer["masks"], 1):
            for place, word in enumerate(mask):
                yield first, "" if place else str(number), shown(word["token"]), percent(word["probability"])
                first = ""

    def _word(self, token: int) -> str:
        # A vocabulary may be padded to a round number of rows that no word has.
        return self._tokenizer.id_to_token(token) or f"[{token}]"


def _filled(text: str, words: Sequence[str]) -> str:
    """Return `text` with its masks replaced; a piece of a word ("##ing") is joined to what stands before it."""
    before, *rest = re.split(re.escape(MASK), text)
    for word, after in zip(words, rest, strict=True):
        before = f"{before.rstrip()}{word[2:]}{after}" if word.startswith("##") else f"{before}{word}{after}"
    return before
