"""Labelled texts to model inputs: [CLS] first [SEP] (second [SEP]), cut to a length, padded a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]
BUCKET = 32  # trimmed batches have a multiple of this many tokens: few shapes to compile


@dataclass(frozen=True)
class Encoded:
    """n token sequences without padding: sequence i is `ids[starts[i]:starts[i+1]]`.

    Its second text begins `first_lengths[i]` tokens in; `length` is the longest a sequence may be.
    """

    ids: Array  # [all tokens] int32
    starts: Array  # [n + 1]
    first_lengths: Array  # [n]
    length: int

    def __len__(self) -> int:
        return len(self.first_lengths)

    def batch(self, rows: Array, size: int, trim: bool = False) -> dict[str, Array]:
        """Return input_ids, attention_mask, token_type_ids `[size, L]` int32 and weights `[size]` of these rows.

        L is `length`, or, trimmed, the next multiple of 32 above the longest row. Rows missing to `size` are empty
        and have weight 0.
        """
        lengths = self.starts[rows + 1] - self.starts[rows]
        L = self.length
        if trim:
            L = min(L, -(-int(lengths.max(initial=1)) // BUCKET) * BUCKET)
        inputs = {name: np.zeros((size, L), np.int32) for name in ("input_ids", "attention_mask", "token_type_ids")}
        for place, (row, n) in enumerate(zip(rows, lengths, strict=True)):
            inputs["input_ids"][place, :n] = self.ids[self.starts[row] : self.starts[row] + n]
            inputs["attention_mask"][place, :n] = 1
            inputs["token_type_ids"][place, self.first_lengths[row] : n] = 1
        weights = (np.arange(size) < len(rows)).astype(np.float32)
        return {**inputs, "weights": weights}

    def in_order(self, size: int, trim: bool = False) -> Iterator[tuple[Array, dict[str, Array]]]:
        """Yield (rows, batch) over every sequence once; trimmed, from the shortest to the longest."""
        order = np.arange(len(self))
        if trim:
            order = np.argsort(np.diff(self.starts), kind="stable")
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield rows, self.batch(rows, size, trim)


def encode_texts(tokenizer: Tokenizer, first: Sequence[str], second: Sequence[str] | None, length: int) -> Encoded:
    """Encode texts or pairs of texts; those longer than `length` lose tokens from the end of their longer text."""
    from tokenizers import Tokenizer as Loader
    from tokenizers.processors import TemplateProcessing

    own = Loader.from_str(tokenizer.to_str())
    own.no_padding()
    own.enable_truncation(length, strategy="longest_first")
    own.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, own.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    texts = list(first) if second is None else list(zip(first, second, strict=True))
    encodings = own.encode_batch(texts)
    starts = np.zeros(len(texts) + 1, np.int64)
    starts[1:] = np.cumsum([len(e.ids) for e in encodings])
    ids = np.fromiter((token for e in encodings for token in e.ids), np.int32, count=int(starts[-1]))
    firsts = np.array([len(e.type_ids) - sum(e.type_ids) for e in encodings], np.int64)
    return Encoded(ids, starts, firsts, length)
