"""Texts to model inputs: [CLS] text_a [SEP] (text_b [SEP]), truncated to a length and padded batch by batch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.tokenizer import set_template
from bigs_cli.models.config import BiGSConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]
SHORTEST = 16  # tokens: the minimum length of a trimmed batch


@dataclass(frozen=True)
class Encoded:
    """n rows of `choices` token sequences each, one after the other, without padding.

    Sequence i is `ids[starts[i]:starts[i+1]]`, and its second text starts `text_a_lengths[i]` tokens in. No sequence is
    longer than `length`; `cut` is the number of truncated sequences. `labels` has one label per row, `[n]` or `[n, …]`,
    or, if `by_token`, one per token, in the shape of `ids`, with −1 for tokens without a label.
    """

    ids: Array  # [all tokens] int32
    starts: Array  # [n · choices + 1]
    text_a_lengths: Array  # [n · choices]
    length: int
    labels: Array | None = None
    by_token: bool = False
    choices: int = 1
    cut: int = 0

    def __len__(self) -> int:
        return len(self.text_a_lengths) // self.choices

    @property
    def lengths(self) -> Array:
        """The length of the longest sequence of each row, `[n]`."""
        return np.diff(self.starts).reshape(-1, self.choices).max(1, initial=0)

    def batch(self, rows: Array, size: int) -> dict[str, Array]:
        """Return input_ids, attention_mask, token_type_ids `[size, L]` int32, weights `[size]`, and labels, if any.

        L is `length`. Empty rows of weight 0 pad the batch to `size`. For rows with several choices, inputs are
        `[size, choices, L]`; labels and weights of tokens are `[size, L]`.
        """
        sequences = (rows[:, None] * self.choices + np.arange(self.choices)).ravel()
        L = self.length
        names = ("input_ids", "attention_mask", "token_type_ids")
        arrays = {name: np.zeros((size * self.choices, L), np.int32) for name in names}
        for place, (start, end) in enumerate(zip(self.starts[sequences], self.starts[sequences + 1], strict=True)):
            arrays["input_ids"][place, : end - start] = self.ids[start:end]
            arrays["attention_mask"][place, : end - start] = 1
            arrays["token_type_ids"][place, self.text_a_lengths[sequences[place]] : end - start] = 1
        if self.choices > 1:
            arrays = {name: array.reshape(size, self.choices, L) for name, array in arrays.items()}
        weights = (np.arange(size) < len(rows)).astype(np.float32)
        if self.labels is None:
            return {**arrays, "weights": weights}
        labels = np.zeros((size, L) if self.by_token else (size, *self.labels.shape[1:]), self.labels.dtype)
        if self.by_token:
            mask = arrays["attention_mask"] > 0
            labels[mask] = np.concatenate([self.labels[self.starts[row] : self.starts[row + 1]] for row in rows])
            weights = (mask & (labels >= 0)).astype(np.float32)
            labels = np.maximum(labels, 0)
        else:
            labels[: len(rows)] = self.labels[rows]
        return {**arrays, "labels": labels, "weights": weights}

    @property
    def groups(self) -> Array:
        """The group of each row, `[n]`: rows of different groups share no batch in inference."""
        return np.zeros(len(self), np.int64)

    def padded_length(self, rows: Array) -> int:
        """Return the length to which a trimmed batch of `rows` is padded."""
        return bucket(int(self.lengths[rows].max()), self.length)

    def trimmed(self, rows: Array) -> Self:
        """Return the same sequences, with `length` trimmed for a batch of `rows`."""
        return replace(self, length=self.padded_length(rows))


def bucket(tokens: int, length: int) -> int:
    """Return the length to which rows of `tokens` tokens are padded: 16, 32, 48, 64, 96, 128, 192, …, at most `length`.

    These are powers of 2 and 1½ times powers of 2: ten shapes up to 512 tokens. Above 32 tokens, at most half of a row
    is padding.
    """
    step = SHORTEST
    while step < tokens:
        step = step * 3 // 2 if step & (step - 1) == 0 and step >= 2 * SHORTEST else 1 << step.bit_length()
    return min(step, length)


def encode_texts(
    tokenizer: Tokenizer, text_a: Sequence[str], text_b: Sequence[str] | None, length: int, labels: Array | None = None
) -> Encoded:
    """Encode texts or pairs of texts; pairs beyond `length` are truncated at the end of the longer text."""
    own = add_special_tokens(tokenizer)
    own.enable_truncation(length, strategy="longest_first")
    texts = list(text_a) if text_b is None else list(zip(text_a, text_b, strict=True))
    encodings = own.encode_batch(texts)
    firsts = np.array([len(e.type_ids) - sum(e.type_ids) for e in encodings], np.int64)
    cut = sum(bool(e.overflowing) for e in encodings)
    return Encoded(*joined([e.ids for e in encodings]), firsts, length, labels, cut=cut)


def check_token_types(inputs: Encoded, config: BiGSConfig) -> None:
    """Check that a model for pairs of texts has two token types.

    Raises:
        RequestError: `inputs` have a second text, and the model has one token type.
    """
    if config.type_vocab_size < 2 and (inputs.text_a_lengths < np.diff(inputs.starts)).any():
        raise RequestError(
            "A pair of texts requires two token types, but this model has one (type_vocab_size: 1). Use a model that "
            "was pretrained with type_vocab_size: 2."
        )


def add_special_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy of `tokenizer` that adds [CLS] and [SEP] as the models expect, and neither pads nor truncates."""
    from tokenizers import Tokenizer as Loader

    own = Loader.from_str(tokenizer.to_str())
    own.no_padding()
    own.no_truncation()
    set_template(own)
    return own


def joined(sequences: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    """Return the concatenated sequences, int32, and the start of each and the end of the last, `[n + 1]`."""
    starts = np.zeros(len(sequences) + 1, np.int64)
    starts[1:] = np.cumsum([len(sequence) for sequence in sequences])
    return np.fromiter(itertools.chain.from_iterable(sequences), np.int32, count=starts[-1]), starts
