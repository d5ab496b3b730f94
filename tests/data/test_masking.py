"""Masking: exact counts, never a special token, the asked-for rates, and independence between steps and rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigs_cli.data.masking import MaskIds, mask_tokens
from bigs_cli.recipe.schema import Masking

SPECIAL = MaskIds(mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3, 4), vocab_size=1000)
L, P = 64, 10


@pytest.fixture(scope="module")
def mask():
    def run(seed, step, rows, ids):
        key = jax.random.fold_in(jax.random.key(seed), step)
        return mask_tokens(key, rows, ids, SPECIAL, Masking(max_predictions=P))

    return jax.jit(run, static_argnums=0)


def rows_of(lengths, seed=0):
    ids = np.random.default_rng(seed).integers(5, 1000, (len(lengths), L))
    ids[:, 0] = 2
    for row, n in enumerate(lengths):
        ids[row, n - 1] = 3
        ids[row, n:] = 0
    return ids


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.lists(st.integers(2, L), min_size=8, max_size=8), st.integers(0, 1000))
def test_every_row_has_exactly_its_predictions(mask, lengths, step):
    ids = rows_of(lengths, step)
    batch = mask(0, step, jnp.arange(8), ids)
    maskable = ids >= 5
    wanted = np.minimum(np.minimum(np.maximum(1, np.round(0.15 * np.array(lengths))), P), maskable.sum(1))
    np.testing.assert_array_equal(batch.weights.sum(1), wanted)
    used = np.asarray(batch.weights, bool)
    for row in range(8):
        places = np.asarray(batch.positions[row])[used[row]]
        assert len(set(places)) == len(places), "a position is predicted once"
        assert maskable[row, places].all(), "special tokens are never predicted"
        np.testing.assert_array_equal(ids[row, places], np.asarray(batch.labels[row])[used[row]])
        elsewhere = np.setdiff1d(np.arange(L), places)
        np.testing.assert_array_equal(batch.input_ids[row, elsewhere], ids[row, elsewhere])
    np.testing.assert_array_equal(batch.attention_mask, ids != 0)


def test_rates_of_mask_random_and_kept(mask):
    ids = rows_of([L] * 4096)
    batch = mask(1, 0, jnp.arange(4096), ids)
    shown = np.take_along_axis(np.asarray(batch.input_ids), np.asarray(batch.positions), 1)
    labels = np.asarray(batch.labels)
    n = labels.size
    masked, kept = (shown == 4).mean(), (shown == labels).mean()
    deviation = 4 * np.sqrt(0.25 / n)
    assert abs(masked - 0.8) < deviation
    assert abs(kept - 0.1) < deviation
    assert abs(1 - masked - kept - 0.1) < deviation
    assert not np.isin(shown[shown != 4], SPECIAL.special_ids).any(), "no special token is put in"
    # every place of a row is as likely as any other: L − 2 of them
    frequency = np.bincount(np.asarray(batch.positions).ravel(), minlength=L)[1:-1] / 4096
    assert np.abs(frequency - P / (L - 2)).max() < 5 * np.sqrt(P / (L - 2) / 4096)


def test_same_key_same_masks_whatever_the_batch_is_split_into(mask):
    ids = rows_of([L] * 8)
    whole = mask(0, 5, jnp.arange(8), ids)
    parts = [mask(0, 5, jnp.arange(i, i + 4), ids[i : i + 4]) for i in (0, 4)]
    for name in whole._fields:
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(getattr(whole, name), joined)


def test_steps_seeds_and_rows_are_independent(mask):
    ids = np.repeat(rows_of([L]), 512, 0)
    first, second, other = (mask(seed, step, jnp.arange(512), ids) for seed, step in ((0, 0), (0, 1), (7, 0)))

    def overlap(a, b):
        return np.mean([len(set(x) & set(y)) for x, y in zip(np.asarray(a), np.asarray(b), strict=True)])

    by_chance = P * P / (L - 2)
    for a, b in ((first, second), (first, other)):
        assert abs(overlap(a.positions, b.positions) - by_chance) < 0.25
    assert abs(overlap(first.positions[:-1], first.positions[1:]) - by_chance) < 0.25
