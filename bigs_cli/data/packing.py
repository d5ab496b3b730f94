"""From documents to rows of L tokens, as BERT-style corpora are made: `[CLS] … [SEP]`, one document a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.tokenizer import CLS, PAD, SEP, UNK, special_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BATCH_CHARACTERS = 1 << 20
"""Text encoded at a time: enough to keep all threads busy, and some 100 MB of memory."""

_PIECE_CHARACTERS = 1 << 13


@dataclass(frozen=True)
class Packed:
    """The rows of a batch of documents, and what was counted on the way."""

    rows: np.ndarray
    """`[R, L]` token ids, uint32, padded."""
    document: np.ndarray
    """`[R]` the document each row is from, as its place in the batch."""
    tokens: int
    """Tokens of text in the rows, [CLS] and [SEP] not counted."""
    unknown: int
    """Those of them that are [UNK]."""
    dropped: int
    """Documents left out because they are shorter than the minimum."""


class Packer:
    """Encodes documents with all threads and packs them into rows of `sequence_length` tokens."""

    def __init__(self, tokenizer: Tokenizer, sequence_length: int, min_tokens: int = 1) -> None:
        """Raises RequestError if rows are too short, or `min_tokens` (of text) exceeds what a row can hold."""
        from tokenizers import Tokenizer

        if sequence_length < 8:
            raise RequestError(f"--length {sequence_length} is too short: a row takes 8 tokens at least.")
        if not 1 <= min_tokens <= (sequence_length - 2) // 2:
            raise RequestError(
                f"--min-tokens {min_tokens} does not suit rows of {sequence_length} tokens: "
                f"it may be 1 to {(sequence_length - 2) // 2}."
            )
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.encode_special_tokens = True  # a "[SEP]" in the text is text
        self._ids = special_ids(tokenizer)
        self._length = sequence_length
        self._min_tokens = min_tokens

    def pack(self, documents: list[str]) -> Packed:
        """Encode and pack a batch of documents."""
        ids, lengths = self._encode(documents)
        starts, ends, document = cut(lengths, self._length - 2, self._min_tokens)
        kept = lengths >= self._min_tokens
        unknown = ids == self._ids[UNK]
        return Packed(
            rows=self._fill(ids, starts, ends),
            document=document,
            tokens=int((ends - starts).sum()),
            unknown=int(unknown[np.repeat(kept, lengths)].sum()),
            dropped=int((~kept).sum()),
        )

    def _encode(self, documents: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return all ids in one array `[T]`, and the tokens of each document `[D]`."""
        pieces: list[str] = []
        counts = []
        for document in documents:
            before = len(pieces)
            pieces.extend(split_text(document, _PIECE_CHARACTERS))
            counts.append(len(pieces) - before)
        encoded = self._tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
        arrays = [np.array(encoding.ids, np.uint32) for encoding in encoded]
        ends = np.concatenate([[0], np.cumsum([len(array) for array in arrays], dtype=np.int64)])
        lengths = np.diff(ends[np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])])
        return np.concatenate([*arrays, np.empty(0, np.uint32)]), lengths

    def _fill(self, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return `[R, L]`: row r holds [CLS], ids[starts[r]:ends[r]], [SEP], and padding."""
        body = self._length - 2
        rows = np.full((len(starts), self._length), self._ids[PAD], np.uint32)
        rows[:, 0] = self._ids[CLS]
        sizes = ends - starts
        full = sizes == body
        rows[full, 1:-1] = ids[starts[full, None] + np.arange(body)]
        for row in np.flatnonzero(~full):
            rows[row, 1 : 1 + sizes[row]] = ids[starts[row] : ends[row]]
        rows[np.arange(len(rows)), sizes + 1] = self._ids[SEP]
        return rows


def cut(lengths: np.ndarray, body: int, min_tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut documents that lie one after the other into rows of at most `body` tokens.

    Each row is full but a document's last. A last row with fewer than `min_tokens` takes what it lacks from
    the row before, so that no text is lost; only documents shorter than `min_tokens` give no row.

    Returns the rows' starts and ends in the concatenated tokens, and their documents, each `[R]` int64.
    """
    lengths = np.asarray(lengths, np.int64)
    offsets = np.cumsum(lengths) - lengths
    rows = np.where(lengths >= min_tokens, -(-lengths // body), 0)
    document = np.repeat(np.arange(len(lengths)), rows)
    first = np.repeat(np.cumsum(rows) - rows, rows)
    place = np.arange(len(document)) - first
    finish = (offsets + lengths)[document]
    starts = offsets[document] + place * body
    starts = np.where(place > 0, np.minimum(starts, finish - min_tokens), starts)
    following = np.append(starts[1:], 0)
    last = place == rows[document] - 1
    return starts, np.where(last, finish, following), document


def split_text(text: str, size: int) -> Iterator[str]:
    """Yield `text` in pieces of at most `size` characters, cut after line ends, else spaces, where it can be.

    WordPiece never joins what white space parts, so the pieces' tokens are those of the whole.
    """
    start = 0
    while len(text) - start > size:
        end = text.rfind("\n", start + 1, start + size)
        if end < 0:
            end = text.rfind(" ", start + 1, start + size)
        end = end + 1 if end > 0 else start + size
        yield text[start:end]
        start = end
    yield text[start:]


def batches(documents: Iterable[str], characters: int = BATCH_CHARACTERS) -> Iterator[list[str]]:
    """Yield the documents in lists of about `characters` characters, or of one longer document."""
    batch: list[str] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
