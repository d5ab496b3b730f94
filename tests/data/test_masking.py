"""Masking: exact counts, no special tokens, the configured rates, whole words, independent steps and rows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from bigs_cli.core.errors import RequestError
from bigs_cli.data.masking import MaskedBatch, MaskIds, characters_of, mask_tokens, word_continuations
from bigs_cli.models.sharding import batch_sharding, make_mesh
from bigs_cli.recipe.groups import Masking, Mesh

V, FIRST_PIECE = 1000, 600  # this id and larger ones continue a word
CLS, SEP, MASK = 2, 3, 4
SPECIAL = MaskIds(mask_id=MASK, pad_id=0, special_ids=(0, 1, 2, 3, 4), vocab_size=V)
WORDS = replace(SPECIAL, continues=bytes(int(i >= FIRST_PIECE) for i in range(V)))
L, P = 64, 10
EITHER = pytest.mark.parametrize("masking", [Masking(max_predictions=P), Masking(max_predictions=P, whole_word=True)])
Array = np.ndarray[Any, Any]


@cache
def compiled(masking: Masking) -> Callable[..., MaskedBatch]:
    """Return a function that masks rows as a run with `seed` does in `step`."""

    def run(seed: int, step: int, rows: Array, ids: Array) -> MaskedBatch:
        return mask_tokens(jax.random.fold_in(jax.random.key(seed), step), rows, ids, WORDS, masking)

    return jax.jit(run, static_argnums=0)


def masked(masking: Masking, ids: Array, seed: int = 0, step: int = 0, first_row: int = 0) -> MaskedBatch:
    return jax.device_get(compiled(masking)(seed, step, first_row + np.arange(len(ids)), ids))


def rows_of(lengths: Sequence[int], seed: int = 0, pieces: Sequence[float] = (0.6, 0.2, 0.1, 0.1)) -> Array:
    """Return rows `[B, 64]` of these lengths, with words of 1, 2, … pieces from one document or two."""
    random = np.random.default_rng(seed)
    ids = random.integers(5, FIRST_PIECE, (len(lengths), L))
    for row, n in zip(ids, lengths, strict=True):
        sizes = random.choice(len(pieces), L, p=pieces) + 1
        continues = np.isin(np.arange(L), np.cumsum(sizes), invert=True)  # a row may begin within a word
        row[continues] = random.integers(FIRST_PIECE, V, continues.sum())
        row[0] = CLS
        row[[random.integers(1, n), n - 1]] = SEP
        row[n:] = 0
    return ids


def words_of(row: Array) -> list[list[int]]:
    """Return the positions of the tokens of each word in a row."""
    words: list[list[int]] = []
    for place, token in enumerate(row):
        if token > MASK:
            if token >= FIRST_PIECE and row[place - 1] > MASK:
                words[-1].append(place)
            else:
                words.append([place])
    return words


def wanted(row: Array, masking: Masking) -> int:
    return min(masking.predictions(L), max(1, round(masking.rate * (row != 0).sum())))


def places(batch: MaskedBatch, row: int) -> list[int]:
    return batch.positions[row, batch.weights[row] > 0].tolist()


@EITHER
@settings(max_examples=25)
@given(lengths=st.lists(st.integers(2, L), min_size=8, max_size=8), step=st.integers(0, 1000))
def test_labels_are_the_original_tokens_and_others_are_unchanged(
    masking: Masking, lengths: list[int], step: int
) -> None:
    ids = rows_of(lengths, step)
    batch = masked(masking, ids, step=step)
    for row, (before, after) in enumerate(zip(ids, batch.input_ids, strict=True)):
        chosen = places(batch, row)
        assert len(set(chosen)) == len(chosen), "a place is predicted once"
        assert (before[chosen] > MASK).all(), "special tokens are never predicted"
        np.testing.assert_array_equal(before[chosen], batch.labels[row, : len(chosen)])
        np.testing.assert_array_equal(np.delete(after, chosen), np.delete(before, chosen))
        assert not batch.positions[row, len(chosen) :].any()
        assert not batch.labels[row, len(chosen) :].any()
        if not masking.whole_word:
            assert len(chosen) == min(wanted(before, masking), (before > MASK).sum())
            continue
        left = wanted(before, masking) - len(chosen)
        for word in words_of(before):
            taken = len({*word} & {*chosen})
            assert taken in (0, len(word)), "all pieces of a word, or none"
            assert taken or len(word) > left, "no word is left out that fits"
        assert left >= 0
    np.testing.assert_array_equal(batch.attention_mask, ids != 0)


@pytest.mark.parametrize("whole_word", [False, True])
@pytest.mark.parametrize(("rate", "mask", "random"), [(0.15, 0.8, 0.1), (0.3, 0.8, 0.1), (0.15, 0.5, 0.3)])
def test_rates_match_the_settings(rate: float, mask: float, random: float, whole_word: bool) -> None:
    masking = Masking(rate=rate, mask_fraction=mask, random_fraction=random, whole_word=whole_word)
    ids = rows_of([L] * 4096)
    batch = masked(masking, ids)
    assert (batch.weights.sum(1) == wanted(ids[0], masking)).all()
    used = batch.weights > 0
    shown = np.take_along_axis(batch.input_ids, batch.positions, 1)[used]
    labels = batch.labels[used]
    parts = ((shown == MASK).mean(), ((shown != MASK) & (shown != labels)).mean(), (shown == labels).mean())
    for part, expected in zip(parts, (mask, random, 1 - mask - random), strict=True):
        assert abs(part - expected) < 4 * np.sqrt(0.25 / len(shown)) + 1 / V  # a random token may be the right one
    assert not np.isin(shown[shown != MASK], SPECIAL.special_ids).any(), "no special token is put in"
    others = shown[(shown != MASK) & (shown != labels)]
    assert abs((others < FIRST_PIECE).mean() - (FIRST_PIECE - 5) / (V - 5)) < 4 * np.sqrt(0.25 / len(others))


def test_every_position_is_equally_likely() -> None:
    ids = np.full((4096, L), 7)
    for masking in (Masking(max_predictions=P), Masking(max_predictions=P, whole_word=True)):
        frequency = np.bincount(masked(masking, ids).positions.ravel(), minlength=L) / 4096
        assert np.abs(frequency - P / L).max() < 5 * np.sqrt(P / L / 4096)


def test_whole_words_are_selected_as_in_bert() -> None:
    """The frequencies of words of one to four pieces are those of BERT's loop over shuffled words.

    Long words are a little rarer in both, because they are skipped when they no longer fit.
    """
    masking, random = Masking(rate=0.3, whole_word=True), np.random.default_rng(0)
    ids = rows_of([L] * 4096, 1)
    batch = masked(masking, ids)
    ours, berts, count = np.zeros(5), np.zeros(5), np.zeros(5)
    for row, before in enumerate(ids):
        words, chosen, left = words_of(before), {*places(batch, row)}, wanted(before, masking)
        for i in random.permutation(len(words)):
            size = len(words[i])
            fits = size <= left
            left -= size * fits
            berts[size] += fits
            ours[size] += words[i][0] in chosen
            count[size] += 1
    ours, berts = ours[1:] / count[1:], berts[1:] / count[1:]
    assert (np.abs(ours - berts) < 4 * np.sqrt(2 * ours * (1 - ours) / count[1:])).all()
    assert (ours[1:] > 0.8 * ours[0]).all()


def test_each_piece_of_a_word_is_masked_independently() -> None:
    ids = rows_of([L] * 4096, pieces=(0, 1))
    batch = masked(Masking(whole_word=True), ids)
    pairs = [
        batch.input_ids[row, word] == MASK
        for row, before in enumerate(ids)
        for word in words_of(before)
        if len(word) == 2 and {*word} <= {*places(batch, row)}
    ]
    both = np.all(pairs, axis=1).mean()
    assert abs(both - 0.8 * 0.8) < 4 * np.sqrt(0.25 / len(pairs))


@EITHER
def test_masks_do_not_depend_on_how_a_batch_is_split(masking: Masking) -> None:
    ids = rows_of([L] * 8)
    whole = masked(masking, ids, step=5)
    parts = [masked(masking, ids[i : i + 4], step=5, first_row=i) for i in (0, 4)]
    for name in whole._fields:
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(getattr(whole, name), joined)


@EITHER
def test_steps_seeds_and_rows_are_independent(masking: Masking) -> None:
    ids = np.repeat(rows_of([L], pieces=(1,)), 512, 0)
    first, second, other = (masked(masking, ids, seed, step).positions for seed, step in ((0, 0), (0, 1), (7, 0)))
    text = (ids[0] > MASK).sum()
    for a, b in ((first, second), (first, other), (first[:-1], first[1:])):
        overlap = np.mean([len({*x} & {*y}) for x, y in zip(a.tolist(), b.tolist(), strict=True)])
        assert abs(overlap - P * P / text) < 0.25


def test_masks_are_those_of_the_first_release() -> None:
    """An update of bigs does not change a resumed run: these masks are those of the first release."""
    batch = masked(Masking(max_predictions=P), np.arange(10, 10 + L)[None], seed=42, step=3)
    assert batch.positions[0].tolist() == [23, 31, 2, 59, 56, 35, 27, 48, 3, 52]
    assert batch.input_ids[0, batch.positions[0]].tolist() == [4, 4, 4, 4, 66, 4, 4, 127, 4, 4]


MESHES = ({"data": 4}, {"data": 2, "tensor": 2})

ON_FOUR_DEVICES = """
import sys, jax, numpy as np
from tests.data.test_masking import MESHES, masked_on_a_mesh
np.savez(sys.argv[1], *(array for sizes in MESHES for array in masked_on_a_mesh(**sizes)))
"""


def masked_on_a_mesh(**sizes: int) -> list[Array]:
    """Return all arrays of a batch masked with its rows spread over the devices, by tokens and by words."""
    placement = batch_sharding(make_mesh(Mesh(**sizes)))
    ids = rows_of([L, 9, 40, 2] * 2)
    inputs = jax.device_put((np.arange(len(ids)), ids), placement)
    either = (Masking(max_predictions=P, whole_word=whole_word) for whole_word in (False, True))
    return [array for masking in either for array in jax.device_get(compiled(masking)(0, 3, *inputs))]


def test_every_mesh_gives_the_same_masks(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_FOUR_DEVICES, tmp_path / "masks.npz"],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "4"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = np.load(tmp_path / "masks.npz")
    for ours, name in zip(masked_on_a_mesh() * len(MESHES), theirs.files, strict=True):
        np.testing.assert_array_equal(ours, theirs[name])


def test_the_rate_changes_linearly() -> None:
    masking = Masking(rate=0.3, final_rate=0.15)
    assert [masking.rate_at(step, 4) for step in range(4)] == pytest.approx([0.3, 0.25, 0.2, 0.15])
    assert masking.rate_at(0, 1) == Masking(rate=0.3).rate_at(3, 4) == 0.3
    assert masking.predictions(100) == 30


def test_the_rate_of_each_row_replaces_the_recipe_s() -> None:
    masking = Masking(rate=0.5)
    ids = rows_of([L, L, L, 4])
    rates = np.array([0.5, 0.25, 0.05, 0.5], np.float32)
    masked = mask_tokens(jax.random.key(0), np.arange(4), ids, SPECIAL, masking, rates)
    expected = [max(1, round(rate * n)) for rate, n in zip(rates.tolist(), (ids != 0).sum(1), strict=True)]
    assert masked.weights.sum(1).tolist() == expected


def test_characters_of_tokens() -> None:
    for kind, expected in {"WordPiece": [1, 1, 8], "ByteLevel": [1, 1, 1], "Metaspace": [1, 1, 0]}.items():
        counts = characters_of(piece_tokenizer(kind), 9)
        assert counts[5:8].tolist() == expected, kind
        assert counts[[0, 1, 2, 3, 4, 8]].tolist() == [1] * 6


def piece_tokenizer(kind: str) -> Tokenizer:
    """Return a tokenizer of ten entries, the first five special."""
    names = {
        "WordPiece": ("a", "##b", "[unused]"),
        "ByteLevel": ("Ġa", "b", ","),
        "Metaspace": ("▁a", "b", "▁"),
        "nothing": ("a", "b", ","),
    }[kind]
    vocab = {token: i for i, token in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *names))}
    if kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    elif kind == "Metaspace":
        tokenizer = Tokenizer(models.Unigram([(token, -1.0) for token in vocab], unk_id=1))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.Metaspace()])
    else:
        tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind == "ByteLevel":
        tokenizer.decoder = decoders.Sequence([decoders.Fuse(), decoders.ByteLevel()])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in list(vocab)[:5]])
    tokenizer.add_tokens(["[added]"])
    return tokenizer


@pytest.mark.parametrize(
    ("kind", "continues"), [("WordPiece", [0, 1, 0]), ("ByteLevel", [0, 1, 1]), ("Metaspace", [0, 1, 0])]
)
def test_word_continuations_of_every_kind_of_vocabulary(kind: str, continues: list[int]) -> None:
    assert list(word_continuations(piece_tokenizer(kind), 12)) == [0, 0, 0, 0, 0, *continues, 0, 0, 0, 0]


def test_a_vocabulary_without_word_marks_is_refused() -> None:
    with pytest.raises(RequestError, match=r"words begin: WordPiece .* Set masking\.whole_word to false\.$"):
        word_continuations(piece_tokenizer("nothing"), 12)
