"""Packing: rows of whole sentences, no rows across documents by default, and no text lost."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigs_cli.core.errors import RequestError
from bigs_cli.data.manifest import Packing
from bigs_cli.data.packing import Packer, cut, split_text
from bigs_cli.data.sentences import MARK, mark

PAD, UNK, CLS, SEP = 0, 100, 101, 102


@settings(max_examples=200)
@given(st.lists(st.integers(1, 30), max_size=12), st.integers(6, 20), st.integers(1, 3), st.integers(0, 5))
def test_rows_cover_all_tokens_and_end_with_a_sentence(sizes, body, min_tokens, begin):
    ends = [begin + n for n in itertools.accumulate(sizes)]
    finish = ends[-1] if ends else begin
    rows = list(cut(begin, finish, ends, body, min_tokens))
    assert [i for start, stop in rows for i in range(start, stop)] == list(range(begin, finish))
    for start, stop in rows:
        assert stop - start <= body
        inside = [end for end in ends if start < end <= start + body]
        last_is_short = finish - stop == min_tokens
        assert last_is_short or stop == (inside[-1] if inside else start + body) or stop == finish
    if finish - begin >= min_tokens:
        assert all(stop - start >= min_tokens for start, stop in rows[-1:])


@settings(max_examples=50)
@given(st.text("ab \n", max_size=80), st.integers(1, 20))
def test_joined_pieces_equal_the_text(text, size):
    pieces = list(split_text(text, size))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= size for piece in pieces if text)


def sentence_lengths(tokenizer, document, unit="sentences"):
    parts = tokenizer.encode_batch(mark(document, unit).split(MARK), add_special_tokens=False)
    return [len(part) for part in parts if len(part)]


@pytest.mark.parametrize("unit", ["sentences", "paragraphs", "tokens"])
@pytest.mark.parametrize("length", [16, 64])
def test_rows_decode_to_the_documents(documents, tokenizer, length, unit):
    packed = Packer(tokenizer, length, Packing(split=unit)).pack(documents)
    whole = tokenizer.encode_batch(documents, add_special_tokens=False)
    assert packed.rows.shape[1] == length
    assert packed.rows.dtype == np.uint16
    assert packed.counts.tokens == sum(map(len, whole))
    assert packed.counts.short == packed.counts.unknown == 0
    assert packed.counts.filled == (packed.rows != PAD).sum() == packed.counts.tokens + 2 * len(packed.rows)
    np.testing.assert_array_equal(packed.rows[packed.rows > 103], [i for encoded in whole for i in encoded.ids])
    np.testing.assert_array_equal(packed.rows[:, 0], CLS)
    np.testing.assert_array_equal((packed.rows == SEP).sum(1), 1)
    sentences = [sentence_lengths(tokenizer, document, unit) for document in documents]
    assert packed.counts.sentences == (0 if unit == "tokens" else sum(map(len, sentences)))
    sizes = [int(n) for n in (packed.rows != PAD).sum(1) - 2]
    for document, encoded in zip(sentences, whole, strict=True):
        ends = list(itertools.accumulate(document))
        at = 0
        while at < len(encoded):
            at += sizes.pop(0)
            assert at == len(encoded) or unit == "tokens" or at in ends or max(document) > length - 2
        assert at == len(encoded), "a row holds one document"
    assert not sizes


def test_a_row_has_all_sentences_that_fit(documents, tokenizer):
    packed = Packer(tokenizer, 64, Packing()).pack(documents[:1])
    lengths = sentence_lengths(tokenizer, documents[0])
    expected, row = [], 0
    for n in lengths:
        if row + n > 62:
            expected.append(row)
            row = 0
        row += n
    np.testing.assert_array_equal((packed.rows != PAD).sum(1) - 2, [*expected, row])


@pytest.mark.parametrize("unit", ["sentences", "tokens"])
def test_with_cross_documents_sep_ends_each_document_and_one_row_is_padded(documents, tokenizer, unit):
    packed = Packer(tokenizer, 64, Packing(split=unit, cross_documents=True, min_tokens=3)).pack([*documents, "a"])
    whole = tokenizer.encode_batch(documents, add_special_tokens=False)
    assert packed.counts.short == 1
    assert packed.counts.tokens == sum(map(len, whole))
    np.testing.assert_array_equal(packed.rows[packed.rows > 103], [i for encoded in whole for i in encoded.ids])
    text = packed.rows[packed.rows != PAD]
    ends = np.cumsum([len(encoded) for encoded in whole])
    real = np.cumsum(text > 103)
    at_end = [text[np.flatnonzero(real == end)[0] + 1] for end in ends]
    assert set(at_end) == {SEP}
    assert ((packed.rows[:, 1:] != CLS).all(1) & (packed.rows[:, 1] != SEP)).all()
    doubled = (packed.rows[:, :-1] == SEP) & (packed.rows[:, 1:] == SEP)
    assert not doubled.any()
    if unit == "tokens":
        assert ((packed.rows[:-1] == PAD).sum(1) <= 1).all(), "no row but the last lacks more than a [SEP]"
    apart = Packer(tokenizer, 64, Packing(split=unit)).pack(documents)
    assert len(packed.rows) < len(apart.rows)


def test_encoding_long_documents_in_pieces_does_not_change_the_tokens(documents, tokenizer):
    long = "\n".join(documents * 5)
    packed = Packer(tokenizer, 32, Packing()).pack([long])
    assert len(long) > 30_000
    np.testing.assert_array_equal(packed.rows[packed.rows > 103], tokenizer.encode(long, add_special_tokens=False).ids)


def test_short_documents_unknown_tokens_and_literal_specials_are_counted(tokenizer):
    packer = Packer(tokenizer, 16, Packing(min_tokens=3))
    packed = packer.pack(["", "river", f"the river 東 {MARK} stone", "a [SEP] b"])
    assert packed.counts.short == 2
    assert packed.counts.unknown >= 1
    assert len(packed.rows) == 2
    assert ((packed.rows == SEP).sum(1) == 1).all(), "a [SEP] in the text is text"
    assert (packed.rows < tokenizer.get_vocab_size()).all(), "the mark is in no row"
    assert packer.pack([]).rows.shape == packer.pack(["", "a"]).rows.shape == (0, 16)


@pytest.mark.parametrize("cross", [False, True])
def test_blank_documents_are_ignored(documents, tokenizer, cross):
    packer = Packer(tokenizer, 32, Packing(cross_documents=cross))
    few = documents[:5]
    with_blanks = ["", few[0], " \n", *few[1:], "\n\n"]
    np.testing.assert_array_equal(packer.pack(with_blanks).rows, packer.pack(few).rows)
    assert packer.pack(with_blanks).counts.sentences == packer.pack(few).counts.sentences


def test_impossible_lengths_are_refused(tokenizer):
    with pytest.raises(RequestError, match="--length 4 is too short"):
        Packer(tokenizer, 4, Packing())
    with pytest.raises(RequestError, match="--min-tokens 20 does not suit"):
        Packer(tokenizer, 16, Packing(min_tokens=20))
