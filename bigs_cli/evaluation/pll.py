"""Pseudo-log-likelihood: how probable a masked language model finds a sentence, each word given all the others.

PLL(W) = Σ_t log p(w_t | W without w_t), in nats, over the tokens between [CLS] and [SEP] (Salazar et al. 2020,
https://arxiv.org/abs/1910.14659, eq. 1): one forward pass for every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.data.encode import Encoded, add_special_tokens
from bigs_cli.inference import Batch, Engine, forward
from bigs_cli.models.functional import Apply, Parameters

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]

STEP = 16
"""Sentences are padded to a multiple of this many tokens: few shapes to compile, and most of BLiMP fits in one."""
BATCH = 128


@dataclass(frozen=True)
class Sentences:
    """n texts as m ≤ n distinct token sequences, [CLS] and [SEP] around each, without padding.

    Text i is sequence `which[i]`. Texts that are the same to the tokenizer are one sequence, so that their scores are
    identical to the last bit.
    """

    ids: list[Array]  # [m] of int32
    words: list[Array]  # [m]: the number of the word each token is a piece of, −1 for a special token
    which: Array  # [n]

    @property
    def lengths(self) -> Array:
        """The tokens of every sequence, `[m]`."""
        return np.array([len(ids) for ids in self.ids])


class Places(NamedTuple):
    """Q positions to mask, each in a copy of its own, and the K tokens whose probabilities are wanted there."""

    sequence: Array  # [Q]
    position: Array  # [Q]
    candidates: Array  # [Q, K]


@dataclass(frozen=True, kw_only=True)
class MaskedCopies(Encoded):
    """One row for each of Q places: a copy of its sequence in which its position is masked.

    `words` `[all tokens]` is the word of each token, −1 for a special token; `padded` `[m]` the length to which each
    sequence is padded. `within_word` also masks the later pieces of the word in which the masked token is, as they
    would give it away (PLL-word-l2r of Kauf & Ivanova 2023, https://arxiv.org/abs/2305.10588).
    """

    places: Places
    words: Array
    padded: Array
    mask_id: int
    within_word: bool

    def __len__(self) -> int:
        return len(self.places.sequence)

    @property
    def lengths(self) -> Array:
        """The length to which each row is padded, `[Q]`."""
        return self.padded[self.places.sequence]

    @property
    def groups(self) -> Array:
        """Rows that are padded to the same length share batches."""
        return self.lengths

    def padded_length(self, rows: Array) -> int:
        """Return the length of a group."""
        return int(self.lengths[rows[0]])

    def batch(self, rows: Array, size: int, trim: bool = False) -> dict[str, Array]:
        """Return input_ids and attention_mask `[size, L]`, positions `[size, 1]` and candidates `[size, K]`."""
        sequence, position, candidates = (array[rows] for array in self.places)
        ids, words = np.zeros((size, self.length), np.int32), np.full((size, self.length), -1)
        mask = np.zeros_like(ids)
        for row, (start, end) in enumerate(zip(self.starts[sequence], self.starts[sequence + 1], strict=True)):
            ids[row, : end - start], words[row, : end - start] = self.ids[start:end], self.words[start:end]
            mask[row, : end - start] = 1
        missing = ((0, size - len(rows)), (0, 0))
        positions = np.pad(position[:, None], missing).astype(np.int32)
        hidden = np.arange(self.length) == positions
        if self.within_word:
            word = np.take_along_axis(words, positions, axis=1)
            hidden |= (words == word) & (word >= 0) & (np.arange(self.length) > positions)
        return {
            "input_ids": np.where(hidden, np.int32(self.mask_id), ids),
            "attention_mask": mask,
            "positions": positions,
            "candidates": np.pad(candidates, missing).astype(np.int32),
        }


def encode_sentences(tokenizer: Tokenizer, texts: Sequence[str]) -> Sentences:
    """Return texts as token sequences; none is truncated."""
    encodings = add_special_tokens(tokenizer).encode_batch(list(texts))
    found: dict[tuple[int, ...], int] = {}
    which = [found.setdefault(tuple(encoding.ids), len(found)) for encoding in encodings]
    first = np.unique(which, return_index=True)[1]
    words = [[-1 if word is None else word for word in encodings[i].word_ids] for i in first]
    return Sentences([np.array(ids, np.int32) for ids in found], [np.array(row) for row in words], np.array(which))


def every_token(sentences: Sentences) -> Places:
    """Return all places of all sequences but the first and the last of each, with their own tokens as candidates."""
    counts = sentences.lengths - 2
    sequence = np.repeat(np.arange(len(counts)), counts)
    position = np.concatenate([1 + np.arange(count) for count in counts])
    tokens = np.concatenate([ids[1:-1] for ids in sentences.ids])
    return Places(sequence, position, tokens[:, None])


def masked_copies(
    sentences: Sentences, places: Places, padded: Array, mask_id: int, within_word: bool = False
) -> MaskedCopies:
    """Return a masked copy for each of `places`; `padded` `[m]` are the lengths to which sequences are padded."""
    return MaskedCopies(
        np.concatenate(sentences.ids),
        np.concatenate([[0], np.cumsum(sentences.lengths)]),
        sentences.lengths,
        int(padded.max(initial=1)),
        places=places,
        words=np.concatenate(sentences.words),
        padded=padded,
        mask_id=mask_id,
        within_word=within_word,
    )


def sum_up(sentences: Sentences, places: Places, log_probabilities: Array) -> Array:
    """Return the PLL in nats of every text, `[n]` float64, from the log-probabilities `[Q, 1]` at `every_token`."""
    sums = np.bincount(places.sequence, weights=log_probabilities[:, 0], minlength=len(sentences.ids))
    return sums[sentences.which]


def padded_lengths(lengths: Array, most: int, alike: bool) -> Array:
    """Return the multiple of `STEP`, at most `most`, to which each of `lengths` `[m]` is padded.

    `alike`: all to the length of the longest. A model that does not mask its padding then sees as much of it after the
    good sentence of a pair as after the bad one.
    """
    held = np.full_like(lengths, lengths.max(initial=1)) if alike else lengths
    return np.minimum(-(-held // STEP) * STEP, most)


def pll_engine(apply: Apply, batch_size: int = BATCH) -> Engine:
    """Return an engine that gives log p(candidate | the rest of its sequence), in nats, float32 `[Q, K]`."""

    def log_probabilities(params: Parameters, batch: Batch) -> jax.Array:
        logits = forward(apply, params, batch).logits[:, 0]
        return jnp.take_along_axis(jax.nn.log_softmax(logits), batch["candidates"], axis=1)

    return Engine(log_probabilities, batch_size, trim=True)
