"""Packing: full rows, nothing across documents, and no text lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigs_cli.core.errors import RequestError
from bigs_cli.data.packing import Packer, batches, cut, split_text


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 60), max_size=12), st.integers(6, 20), st.integers(1, 3))
def test_rows_cover_every_token_once_in_order(lengths, body, min_tokens):
    starts, ends, document = cut(np.array(lengths, np.int64), body, min_tokens)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(int)
    for number, length in enumerate(lengths):
        mine = document == number
        covered = [i for s, e in zip(starts[mine], ends[mine], strict=True) for i in range(s, e)]
        expected = range(offsets[number], offsets[number + 1]) if length >= min_tokens else []
        assert covered == list(expected)
        assert mine.sum() == (-(-length // body) if length >= min_tokens else 0)
    sizes = ends - starts
    assert ((sizes >= min_tokens) & (sizes <= body)).all()


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.text("ab \n", max_size=80), st.integers(1, 20))
def test_pieces_join_to_the_text(text, size):
    pieces = list(split_text(text, size))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= size for piece in pieces if text)


@pytest.mark.parametrize("length", [16, 64])
def test_rows_decode_to_the_documents(documents, tokenizer, length):
    packed = Packer(tokenizer, length, 2).pack(documents)
    whole = tokenizer.encode_batch(documents, add_special_tokens=False)
    assert packed.rows.shape == (len(packed.document), length)
    assert packed.tokens == sum(map(len, whole))
    assert packed.dropped == packed.unknown == 0
    for number, encoded in enumerate(whole):
        rows = packed.rows[packed.document == number]
        np.testing.assert_array_equal(rows[rows > 103], encoded.ids)
        np.testing.assert_array_equal(rows[:, 0], 101)
        np.testing.assert_array_equal((rows == 102).sum(1), 1)
        assert (rows[:-2] != 0).all(), "only a document's last two rows may be short"
        for row in rows:
            end = int(np.flatnonzero(row == 102)[0])
            assert (row[end + 1 :] == 0).all()


def test_long_documents_are_encoded_in_pieces_without_a_trace(documents, tokenizer):
    long = "\n".join(documents * 5)
    packed = Packer(tokenizer, 32).pack([long])
    assert len(long) > 30_000
    np.testing.assert_array_equal(packed.rows[packed.rows > 103], tokenizer.encode(long, add_special_tokens=False).ids)


def test_short_documents_unknown_tokens_and_literal_specials_are_counted(tokenizer):
    packed = Packer(tokenizer, 16, 3).pack(["", "river", "the river 東 stone", "a [SEP] b"])
    assert packed.dropped == 2
    assert packed.unknown >= 1
    assert set(packed.document) == {2, 3}
    assert ((packed.rows == 102).sum(1) == 1).all(), "a [SEP] in the text is text"


def test_batches_are_bounded_and_keep_the_order(documents):
    parts = list(batches(documents, 2000))
    assert [document for part in parts for document in part] == documents
    assert all(sum(map(len, part[:-1])) < 2000 for part in parts)


def test_impossible_lengths_are_refused(tokenizer):
    with pytest.raises(RequestError, match="--length 4 is too short"):
        Packer(tokenizer, 4)
    with pytest.raises(RequestError, match="--min-tokens 20 does not suit"):
        Packer(tokenizer, 16, 20)
