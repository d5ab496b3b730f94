"""The computed order is a permutation for any number of rows, and as random as a drawn one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bigs_cli.data.order import Shuffle


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_every_epoch_is_a_permutation(seed: int) -> None:
    for count in [*range(1, 130), 255, 256, 257, (1 << 16) - 1, 1 << 16, (1 << 16) + 1]:
        for epoch in (0, 1, 10**6):
            rows = Shuffle(count, seed).take(epoch * count + np.arange(count))
            np.testing.assert_array_equal(np.sort(rows), np.arange(count))


@pytest.mark.parametrize("count", [(1 << 32) - 1, (1 << 32) + 1, 10**10, 1 << 50])
def test_a_large_epoch_has_no_duplicate_rows(count: int) -> None:
    places = np.unique(np.random.default_rng(0).integers(0, count, 100_000))
    rows = Shuffle(count, seed=0).take(places)
    assert len(np.unique(rows)) == len(places)
    assert 0 <= rows.min() <= rows.max() < count


def test_the_order_depends_only_on_the_position() -> None:
    shuffle, places = Shuffle(1000, seed=0), np.arange(2500)
    together = shuffle.take(places)
    np.testing.assert_array_equal(together[::-1], shuffle.take(places[::-1]))
    np.testing.assert_array_equal(together, np.concatenate([shuffle.take(places[i : i + 1]) for i in range(2500)]))


def test_all_orders_of_a_few_rows_occur() -> None:
    orders = Shuffle(4, seed=0).take(np.arange(4 * 24_000)).reshape(-1, 4)
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    # A random order would occur 1,000 times. With so few rows, the network differs from this by a few percent.
    assert len(counts) == 24
    assert 900 < counts.min() <= counts.max() < 1100


@pytest.mark.parametrize("count", [32, 257, 1000])
def test_positions_neighbours_and_epochs_are_independent(count: int) -> None:
    """χ² tests: one in 10,000 random permutations would have a p-value below 1e-4."""
    epochs = 400_000 // count
    one = Shuffle(count, seed=5).take(np.arange(epochs * count)).reshape(epochs, count)
    other = Shuffle(count, seed=6).take(np.arange(epochs * count)).reshape(epochs, count)

    def even(values: np.ndarray, kinds: int) -> float:
        return float(stats.chisquare(np.bincount(values.ravel(), minlength=kinds)).pvalue)

    assert even(one[:, 0], count) > 1e-4
    assert even(one[:, -1], count) > 1e-4
    assert even((one[:, 1:] - one[:, :-1]) % count - 1, count - 1) > 1e-4
    assert even((one[1:] - one[:-1]) % count, count) > 1e-4
    assert even((other[:-1] - one[1:]) % count, count) > 1e-4


@pytest.mark.parametrize("count", [100_000, 10**10])
def test_consecutive_rows_of_a_large_corpus_are_independent(count: int) -> None:
    rows = Shuffle(count, seed=0).take(np.arange(60_000))
    cell = rows * 20 // count
    assert stats.chisquare(np.bincount(20 * cell[:-1] + cell[1:], minlength=400)).pvalue > 1e-4
    triples = np.argsort(rows.reshape(-1, 3), axis=1) @ [9, 3, 1]
    assert stats.chisquare(np.unique(triples, return_counts=True)[1]).pvalue > 1e-4
