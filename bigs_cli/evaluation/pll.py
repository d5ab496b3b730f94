"""Pseudo-log-likelihood: how probable a masked language model finds a sentence, each word given all the others.

PLL(W) = Σ_t log p(w_t | W without w_t), in nats, over the tokens between [CLS] and [SEP] (Salazar et al. 2020,
https://arxiv.org/abs/1910.14659, eq. 1): one forward pass for every token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.data.encode import add_special_tokens
from bigs_cli.models.functional import Apply, Parameters

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]

STEP = 16
"""Sentences are padded to a multiple of this many tokens: few shapes to compile, and most of BLiMP fits in one."""
BATCH = 128


@dataclass(frozen=True)
class Sentences:
    """n texts as m ≤ n different token sequences, [CLS] and [SEP] around each, without padding.

    Text i is sequence `which[i]`. Texts that are the same to the tokenizer are one sequence, so that their scores are
    the same to the last bit.
    """

    ids: list[Array]  # [m] of int32
    words: list[Array]  # [m]: the number of the word each token is a piece of, −1 for a special token
    which: Array  # [n]

    @property
    def lengths(self) -> Array:
        """The tokens of every sequence, `[m]`."""
        return np.array([len(ids) for ids in self.ids])


class Places(NamedTuple):
    """Q places to be masked, each in a copy of its own, and the K tokens whose probabilities are asked for there."""

    sequence: Array  # [Q]
    position: Array  # [Q]
    candidates: Array  # [Q, K]


def encode_sentences(tokenizer: Tokenizer, texts: Sequence[str]) -> Sentences:
    """Return texts as the model reads them; none is cut."""
    encodings = add_special_tokens(tokenizer).encode_batch(list(texts))
    found: dict[tuple[int, ...], int] = {}
    which = [found.setdefault(tuple(encoding.ids), len(found)) for encoding in encodings]
    first = np.unique(which, return_index=True)[1]
    words = [[-1 if word is None else word for word in encodings[i].word_ids] for i in first]
    return Sentences([np.array(ids, np.int32) for ids in found], [np.array(row) for row in words], np.array(which))


def every_token(sentences: Sentences) -> Places:
    """Return all places of all sequences but the first and the last of each, every one asked for its own token."""
    counts = sentences.lengths - 2
    sequence = np.repeat(np.arange(len(counts)), counts)
    position = np.concatenate([1 + np.arange(count) for count in counts])
    tokens = np.concatenate([ids[1:-1] for ids in sentences.ids])
    return Places(sequence, position, tokens[:, None])


def sum_up(sentences: Sentences, places: Places, log_probabilities: Array) -> Array:
    """Return the PLL in nats of every text, `[n]` float64, from the log-probabilities `[Q, 1]` at `every_token`."""
    sums = np.bincount(places.sequence, weights=log_probabilities[:, 0], minlength=len(sentences.ids))
    return sums[sentences.which]


def padded_lengths(lengths: Array, most: int, alike: bool) -> Array:
    """Return what sequences of `lengths` `[m]` are padded to: the multiple of `STEP` that holds each, at most `most`.

    `alike`: all to the same length, that of the longest. A model that reads its padding then sees as much of it beside
    the good sentence of a pair as beside the bad one.
    """
    held = np.full_like(lengths, lengths.max(initial=1)) if alike else lengths
    return np.minimum(-(-held // STEP) * STEP, most)


class MaskedWords:
    """Asks a masked language model for words at masked places; compiled once a length, for any parameters."""

    def __init__(self, apply: Apply, mask_id: int, batch_size: int = BATCH, within_word: bool = False) -> None:
        """Mask with `mask_id`, `batch_size` copies of sequences at once.

        `within_word` also hides the later pieces of the word in which a masked token is, as they would give it away
        (PLL-word-l2r of Kauf & Ivanova 2023, https://arxiv.org/abs/2305.10588).
        """
        self._mask_id, self._batch_size, self._within_word = mask_id, batch_size, within_word

        def log_probabilities(params: Parameters, batch: dict[str, jax.Array]) -> jax.Array:
            ids, mask, positions = batch["input_ids"], batch["attention_mask"], batch["positions"]
            logits = apply(params, ids, mask, None, positions=positions).logits[:, 0]
            return jnp.take_along_axis(jax.nn.log_softmax(logits), batch["candidates"], axis=1)

        self._log_probabilities = jax.jit(log_probabilities)

    def log_probabilities(
        self,
        params: Parameters,
        sentences: Sentences,
        places: Places,
        lengths: Array,
        advance: Callable[[int], None] = lambda n: None,
    ) -> Array:
        """Return log p(candidate | the rest of its sequence) in nats, float32 `[Q, K]`.

        `lengths` `[m]` are the tokens each sequence is padded to; `advance` is told how many places are done.
        """
        result = np.zeros(places.candidates.shape, np.float32)
        for rows, batch in self._batches(sentences, places, lengths):
            result[rows] = np.asarray(self._log_probabilities(params, batch))[: len(rows)]
            advance(len(rows))
        return result

    def _batches(
        self, sentences: Sentences, places: Places, lengths: Array
    ) -> Iterator[tuple[Array, dict[str, Array]]]:
        """Yield (places, batch) over all places once, from the shortest to the longest; batches are always full."""
        for L in np.unique(lengths[places.sequence]):
            members = np.flatnonzero(lengths == L)
            ids, words = (_padded([rows[i] for i in members], L) for rows in (sentences.ids, sentences.words))
            real = np.arange(L) < sentences.lengths[members, None]
            of_length = np.flatnonzero(lengths[places.sequence] == L)
            for start in range(0, len(of_length), self._batch_size):
                rows = of_length[start : start + self._batch_size]
                filled = np.resize(rows, self._batch_size)  # The last batch is filled with rows once more.
                row = np.searchsorted(members, places.sequence[filled])
                position = places.position[filled, None]
                hidden = np.arange(L) == position
                if self._within_word:
                    word = np.take_along_axis(words[row], position, axis=1)
                    hidden |= (words[row] == word) & (word >= 0) & real[row] & (np.arange(L) > position)
                yield (
                    rows,
                    {
                        "input_ids": np.where(hidden, np.int32(self._mask_id), ids[row]),
                        "attention_mask": real[row].astype(np.int32),
                        "positions": position.astype(np.int32),
                        "candidates": places.candidates[filled].astype(np.int32),
                    },
                )


def _padded(rows: Sequence[Array], length: int) -> Array:
    made = np.zeros((len(rows), length), np.int32)
    for place, row in zip(made, rows, strict=True):
        place[: len(row)] = row
    return made
