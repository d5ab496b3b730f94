"""Pseudo-log-likelihoods match those of one manually masked sentence at a time, for any batch size and order."""

from __future__ import annotations

from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from bigs_cli.data.tokenizer import load_tokenizer
from bigs_cli.evaluation.pll import (
    encode_sentences,
    every_token,
    masked_copies,
    padded_lengths,
    pll_engine,
    pseudo_log_likelihoods,
)
from bigs_cli.inference import Engine
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import make_apply
from bigs_cli.models.published import to_tree, to_unstacked
from bigs_cli.recipe.groups import Compute
from tests.evaluation.tiny_mlm import VOCABULARY, config, parameters, write_vocabulary

MASK = VOCABULARY.index("[MASK]")
TEXTS = [
    "The cat sleeps.",
    "the cats are running near the dogs.",
    "runs",
    "The dog is here near the cat near the dog near the cat near the dog. The cats sleep.",
    "the cat  SLEEPS .",
]


@cache
def engine_of(of: BiGSConfig, batch_size: int) -> Engine:
    return pll_engine(make_apply(of, Compute(), unstacked=True), batch_size)


def score(
    of: BiGSConfig, folder: Path, texts: list[str], batch_size: int = 3, within_word: bool = False
) -> np.ndarray[Any, Any]:
    sentences = encode_sentences(load_tokenizer(write_vocabulary(folder)), texts)
    places = every_token(sentences)
    lengths = padded_lengths(sentences.lengths, of.max_position_embeddings, not of.mask_padding)
    seen: list[int] = []
    copies = masked_copies(sentences, places, lengths, MASK, within_word)
    plls = engine_of(of, batch_size)(to_unstacked(parameters(of)), copies, seen.append)
    assert sum(seen) == len(places.sequence)
    return pseudo_log_likelihoods(sentences, places, plls)


def by_hand(of: BiGSConfig, pieces: list[list[str]], length: int | None = None, within_word: bool = False) -> float:
    """Return the PLL of words, given as pieces, computed with one masked copy of the sentence at a time."""
    apply, params = jax.jit(make_apply(of, Compute())), to_tree(parameters(of), of)
    ids = [VOCABULARY.index(piece) for piece in ["[CLS]", *chain(*pieces), "[SEP]"]]
    total, place = 0.0, 0
    for word in pieces:
        for i in range(len(word)):
            place += 1
            hidden = len(word) - i if within_word else 1
            masked = [*ids[:place], *[MASK] * hidden, *ids[place + hidden :]]
            row = np.array([masked + [0] * ((length or len(ids)) - len(ids))])
            logits = np.asarray(apply(params, row).logits, np.float64)[0, place]
            total += log_softmax(logits)[ids[place]]
    return total


@pytest.mark.parametrize("within_word", [False, True])
def test_plls_match_one_masked_copy_at_a_time(within_word: bool, tmp_path: Path) -> None:
    """With masked padding, the PLL equals that of the unpadded sentence."""
    pieces = [["the"], ["cats"], ["are"], ["run", "##ning"], ["near"], ["the"], ["dogs"], ["."]]
    plls = score(config(), tmp_path, TEXTS, within_word=within_word)
    assert plls[1] == pytest.approx(by_hand(config(), pieces, within_word=within_word), rel=2e-5)
    assert plls[2] == pytest.approx(by_hand(config(), [["run", "##s"]], within_word=within_word), rel=2e-5)
    other = score(config(), tmp_path, TEXTS, within_word=not within_word)
    assert abs(plls[1] - other[1]) > 0.01  # one of its words has two pieces
    assert plls[0] == pytest.approx(other[0], rel=1e-6)  # all words are single pieces


def test_unmasked_padding_has_the_same_length_for_all_sentences(tmp_path: Path) -> None:
    of = config(mask_padding=False)
    plls = score(of, tmp_path, TEXTS)
    pieces = [["the"], ["cat"], ["sleeps"], ["."]]
    assert plls[0] == pytest.approx(by_hand(of, pieces, length=32), rel=2e-5)
    assert abs(plls[0] - by_hand(of, pieces)) > 0.01


def test_plls_do_not_depend_on_batch_or_order(tmp_path: Path) -> None:
    whole = score(config(), tmp_path, TEXTS, 40)
    assert np.ptp(whole) > 1
    np.testing.assert_allclose(score(config(), tmp_path, TEXTS), whole, rtol=1e-5)
    np.testing.assert_allclose(score(config(), tmp_path, TEXTS[::-1])[::-1], whole, rtol=1e-5)
    np.testing.assert_allclose([score(config(), tmp_path, [text])[0] for text in TEXTS], whole, rtol=1e-5)


def test_sentences_with_equal_tokens_have_equal_plls(tmp_path: Path) -> None:
    plls = score(config(), tmp_path, TEXTS)
    assert plls[0] == plls[4]


def test_padded_lengths_are_multiples_of_step() -> None:
    lengths = np.array([3, 16, 17, 38])
    assert padded_lengths(lengths, 40, equal=False).tolist() == [4, 16, 20, 40]
    assert padded_lengths(lengths[:3], 40, equal=True).tolist() == [20, 20, 20]
    assert padded_lengths(lengths, 512, equal=True).tolist() == [40] * 4
