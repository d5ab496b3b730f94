"""Packs documents into rows of L tokens as in BERT's corpora: `[CLS] sentence sentence … [SEP]`.

A row is filled with whole sentences (or paragraphs); only a sentence that is longer than a row is split. The rest of a
document becomes a padded row, so no text is lost. A row contains text of one document. If rows may cross documents,
`[SEP]` ends each document in a row, and only the last row of a batch is padded.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.manifest import Counts, Packing, dtype_for
from bigs_cli.data.sentences import MARK, mark
from bigs_cli.data.tokenizer import CLS, PAD, SEP, UNK, special_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]

_PIECE_CHARACTERS = 1 << 13  # so that the tokenizer's threads share a long document


@dataclass(frozen=True)
class Packed:
    """The rows of a batch of documents, and their counts."""

    rows: Array
    """`[R, L]` padded token ids, in the data type of the shards."""
    counts: Counts


class Packer:
    """Encodes documents and packs them into rows of `sequence_length` tokens."""

    def __init__(self, tokenizer: Tokenizer, sequence_length: int, packing: Packing) -> None:
        """Copy the tokenizer, and add a token that marks ends of sentences to the copy.

        Raises:
            RequestError: as `check_packing` does.
        """
        from tokenizers import AddedToken, Tokenizer

        check_packing(sequence_length, packing)
        self._ids = special_ids(tokenizer)
        self._dtype = np.dtype(dtype_for(tokenizer.get_vocab_size()))
        self._length = sequence_length
        self._packing = packing
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        # Ends of sentences are encoded as an added token. This gives their positions among the tokens without computing
        # the offset of every token, and long texts keep the tokenizer's threads busy.
        self._tokenizer.add_tokens([AddedToken(MARK, normalized=False, special=False)])
        self._mark = self._tokenizer.token_to_id(MARK)
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in the text is ordinary text

    def pack(self, documents: Sequence[str]) -> Packed:
        """Encode and pack a batch of documents, which may be empty."""
        ids, ends, document_ends = self._encode(documents)
        lengths = np.diff(document_ends, prepend=0)
        kept = lengths >= self._packing.min_tokens
        cut = self._cut_joined if self._packing.cross_documents else self._cut_apart
        rows = cut(ids, ends, document_ends, kept)
        in_kept = np.repeat(kept, lengths)
        sentences = int(kept[np.searchsorted(document_ends, ends)].sum()) if self._packing.split != "tokens" else 0
        counts = Counts(
            short=int((~kept).sum()),
            sentences=sentences,
            tokens=int(in_kept.sum()),
            unknown=int((ids == self._ids[UNK])[in_kept].sum()),
            rows=len(rows),
            filled=int((rows != self._ids[PAD]).sum()),
        )
        return Packed(rows, counts)

    def _encode(self, documents: Sequence[str]) -> tuple[Array, Array, Array]:
        """Return all ids `[T]`, and the ends of sentences `[S]` and of documents `[D]` as positions among the ids.

        No sentence is empty, and the end of a document with tokens is also the end of a sentence.
        """
        pieces: list[str] = []
        counts = []
        for document in documents:
            before = len(pieces)
            pieces.extend(split_text(mark(document, self._packing.split), _PIECE_CHARACTERS))
            counts.append(len(pieces) - before)
        encodings = self._tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
        lists = [encoding.ids for encoding in encodings]
        sizes = np.fromiter(map(len, lists), np.int64, len(lists))
        marked = np.fromiter(itertools.chain.from_iterable(lists), np.uint32, int(sizes.sum()))
        marks = np.flatnonzero(marked == self._mark)
        piece_ends = np.concatenate([[0], np.cumsum(sizes)])
        marked_ends = piece_ends[np.cumsum(counts, dtype=np.int64)]
        document_ends = marked_ends - np.searchsorted(marks, marked_ends)
        ends = np.union1d(marks - np.arange(len(marks)), document_ends)
        return np.delete(marked, marks), ends[ends > 0], document_ends

    def _cut_apart(self, ids: Array, ends: Array, document_ends: Array, kept: Array) -> Array:
        """Return the rows for packing without `cross_documents`."""
        rows: list[tuple[int, int]] = []
        row_ends, begin = self._row_ends(ends), 0
        for finish, keep in zip(document_ends.tolist(), kept.tolist(), strict=True):
            if keep:
                rows.extend(self._cut(begin, finish, row_ends))
            begin = finish
        return self._fill(ids, rows)

    def _cut_joined(self, ids: Array, ends: Array, document_ends: Array, kept: Array) -> Array:
        """Return the rows for packing with `cross_documents`, in which [SEP] ends each document."""
        lengths = np.diff(document_ends, prepend=0)
        in_kept = np.repeat(kept, lengths)
        # Every end is shifted by the dropped tokens and the inserted [SEP] tokens before it.
        dropped = np.concatenate([[0], np.cumsum(~in_kept)])
        ends = ends[kept[np.searchsorted(document_ends, ends)]]
        kept_ends = document_ends[kept]
        separated = np.searchsorted(kept_ends, ends, side="right")
        joined = np.insert(ids[in_kept], kept_ends - dropped[kept_ends], self._ids[SEP])
        row_ends = self._row_ends(ends - dropped[ends] + separated)
        is_sep = joined == self._ids[SEP]
        # A [SEP] at the end of a row also ends the row; at the start of a row, after [CLS], it is left out.
        rows = [
            (start + int(is_sep[start]), stop - int(is_sep[stop - 1]))
            for start, stop in self._cut(0, len(joined), row_ends)
        ]
        return self._fill(joined, [(start, stop) for start, stop in rows if stop > start])

    def _cut(self, begin: int, finish: int, row_ends: list[int]) -> Iterator[tuple[int, int]]:
        return cut(begin, finish, row_ends, self._length - 2, self._packing.min_tokens)

    def _row_ends(self, ends: Array) -> list[int]:
        return [] if self._packing.split == "tokens" else ends.tolist()

    def _fill(self, ids: Array, ranges: Sequence[tuple[int, int]]) -> Array:
        """Return `[R, L]`: row r is [CLS], the ids from ranges[r][0] up to ranges[r][1], [SEP], and padding."""
        starts, stops = np.array(ranges, np.int64).reshape(-1, 2).T
        rows = np.full((len(starts), self._length), self._ids[PAD], self._dtype)
        rows[:, 0] = self._ids[CLS]
        sizes = stops - starts
        places = np.arange(1, self._length - 1)
        inside = places <= sizes[:, None]
        rows[:, 1:-1][inside] = ids[(starts[:, None] + places - 1)[inside]]
        rows[np.arange(len(rows)), sizes + 1] = self._ids[SEP]
        return rows


def check_packing(sequence_length: int, packing: Packing) -> None:
    """Check that rows are long enough for the packing.

    Raises:
        RequestError: a row has fewer than 8 tokens, or `min_tokens` is more than half of the text in a full row.
    """
    if sequence_length < 8:
        raise RequestError(f"--length {sequence_length} is too short: the minimum is 8 tokens.")
    if packing.min_tokens > (sequence_length - 2) // 2:
        raise RequestError(
            f"--min-tokens {packing.min_tokens} does not suit rows of {sequence_length} tokens: it must be 1 to "
            f"{(sequence_length - 2) // 2}."
        )


def cut(begin: int, finish: int, ends: Sequence[int], body: int, min_tokens: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of rows of at most `body` tokens that cover `begin` to `finish`.

    A row stops at the last of the ascending `ends` that fits or, if none fits, when it is full. If the last row would
    have fewer than `min_tokens`, the missing tokens are moved to it from the previous row.
    """
    start = begin
    while finish - start > body:
        stop = _last_within(ends, start, start + body)
        if finish - stop < min_tokens:
            stop = finish - min_tokens
        yield start, stop
        start = stop
    if finish > start:
        yield start, finish


def _last_within(ends: Sequence[int], start: int, stop: int) -> int:
    """Return the largest of `ends` above `start` and not above `stop`, or `stop` if there is none."""
    place = bisect.bisect_right(ends, stop)
    return ends[place - 1] if place and ends[place - 1] > start else stop


def split_text(text: str, size: int) -> Iterator[str]:
    """Yield `text` in pieces of at most `size` characters, split after a line end or space if there is one.

    WordPiece never joins text across white space, so the pieces have the same tokens as the whole text.
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
