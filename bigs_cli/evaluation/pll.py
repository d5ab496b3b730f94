"""Pseudo-log-likelihood (PLL) of a sentence under a masked language model.

PLL(W) = Σ_t log p(w_t | W without w_t), in nats, over the tokens between [CLS] and [SEP] (Salazar et al. 2020,
https://arxiv.org/abs/1910.14659, eq. 1): one forward pass for every token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.data.encode import Encoded, add_special_tokens
from bigs_cli.inference import Batch, Engine, forward
from bigs_cli.models.functional import Apply, Parameters, memoize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]

STEP = 4
"""Sentences are padded to a multiple of this many tokens: few shapes to compile, and with BLiMP 9% padding."""
BATCH = 128


@dataclass(frozen=True)
class Sentences:
    """n texts as m ≤ n distinct token sequences with [CLS] and [SEP], without padding.

    Text i is sequence `sequence_of[i]`. Texts with equal tokens share a sequence, so their scores are bit-identical.
    """

    ids: list[Array]  # [m] of int32
    words: list[Array]  # [m]: the index of the word of each token, −1 for a special token
    sequence_of: Array  # [n]

    @property
    def lengths(self) -> Array:
        """The number of tokens of every sequence, `[m]`."""
        return np.array([len(ids) for ids in self.ids])


class MaskedPositions(NamedTuple):
    """Q positions to mask, each in a separate copy of its sequence, and K candidate tokens for each."""

    sequence: Array  # [Q]
    position: Array  # [Q]
    candidates: Array  # [Q, K]


@dataclass(frozen=True, kw_only=True)
class MaskedCopies(Encoded):
    """One row for each of Q positions: a copy of its sequence with the position masked.

    `words` `[all tokens]` is the word of each token, −1 for a special token; `padded` `[m]` is the length to which each
    sequence is padded. `within_word` also masks the following pieces of the same word, which would reveal the masked
    token (PLL-word-l2r of Kauf & Ivanova 2023, https://arxiv.org/abs/2305.10588).
    """

    masked: MaskedPositions
    words: Array
    padded: Array
    mask_id: int
    within_word: bool

    def __len__(self) -> int:
        return len(self.masked.sequence)

    @property
    def lengths(self) -> Array:
        """The length to which each row is padded, `[Q]`."""
        return self.padded[self.masked.sequence]

    @property
    def groups(self) -> Array:
        """The group of each row: rows with the same padded length share batches."""
        return self.lengths

    def padded_length(self, rows: Array) -> int:
        """Return the padded length of the rows of a group."""
        return int(self.lengths[rows[0]])

    def batch(self, rows: Array, size: int) -> dict[str, Array]:
        """Return input_ids and attention_mask `[size, L]`, positions `[size, 1]` and candidates `[size, K]`."""
        sequence, position, candidates = (array[rows] for array in self.masked)
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
    """Encode texts without truncation."""
    encodings = add_special_tokens(tokenizer).encode_batch(list(texts))
    distinct: dict[tuple[int, ...], int] = {}
    sequence_of = [distinct.setdefault(tuple(encoding.ids), len(distinct)) for encoding in encodings]
    first = np.unique(sequence_of, return_index=True)[1]
    words = [np.array([-1 if word is None else word for word in encodings[i].word_ids]) for i in first]
    return Sentences([np.array(ids, np.int32) for ids in distinct], words, np.array(sequence_of))


def every_token(sentences: Sentences) -> MaskedPositions:
    """Return all positions except [CLS] and [SEP], each with its own token as the only candidate."""
    counts = sentences.lengths - 2
    sequence = np.repeat(np.arange(len(counts)), counts)
    position = np.concatenate([1 + np.arange(count) for count in counts])
    tokens = np.concatenate([ids[1:-1] for ids in sentences.ids])
    return MaskedPositions(sequence, position, tokens[:, None])


def masked_copies(
    sentences: Sentences, masked: MaskedPositions, padded: Array, mask_id: int, within_word: bool = False
) -> MaskedCopies:
    """Return a copy of its sequence for each of the `masked` positions; `padded` `[m]` are the padded lengths."""
    return MaskedCopies(
        np.concatenate(sentences.ids),
        np.concatenate([[0], np.cumsum(sentences.lengths)]),
        sentences.lengths,
        int(padded.max(initial=1)),
        masked=masked,
        words=np.concatenate(sentences.words),
        padded=padded,
        mask_id=mask_id,
        within_word=within_word,
    )


def pseudo_log_likelihoods(sentences: Sentences, masked: MaskedPositions, log_probabilities: Array) -> Array:
    """Return the PLL in nats of every text, `[n]` float64, from the log-probabilities `[Q, 1]` at `every_token`."""
    sums = np.bincount(masked.sequence, weights=log_probabilities[:, 0], minlength=len(sentences.ids))
    return sums[sentences.sequence_of]


def padded_lengths(lengths: Array, maximum: int, equal: bool) -> Array:
    """Return the length to which each of `lengths` `[m]` is padded: a multiple of `STEP`, or `maximum` if that is less.

    With `equal`, all are padded to the length of the longest. A model that does not mask its padding then reads both
    sentences of a pair at the same padded length.
    """
    lengths = np.full_like(lengths, lengths.max(initial=1)) if equal else lengths
    return np.minimum(-(-lengths // STEP) * STEP, maximum)


def pll_engine(apply: Apply, batch_size: int = BATCH) -> Engine:
    """Return an engine that computes log p(candidate | rest of the sequence) in nats, float32 `[Q, K]`."""
    return Engine(_log_probabilities(apply), batch_size, trim=True)


@memoize
def _log_probabilities(apply: Apply) -> Callable[[Parameters, Batch], jax.Array]:
    def log_probabilities(params: Parameters, batch: Batch) -> jax.Array:
        logits = forward(apply, params, batch).logits[:, 0]
        return jnp.take_along_axis(jax.nn.log_softmax(logits), batch["candidates"], axis=1)

    return log_probabilities
