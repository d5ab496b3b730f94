"""Random orders of rows that are computed, not stored: the position in the order is their only state."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# With 32 or more rows, positions and differences between neighbours are distributed as in uniformly drawn permutations;
# see the tests.
_ROUNDS = 10
_HALF = np.uint64(32)
# Odd numbers without a pattern in their bits: those of SplitMix64 (Steele, Lea and Flood, 2014).
_EPOCH, _MIX, _MIX_AGAIN = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)


class Shuffle:
    """An endless sequence of row numbers: each of 0 … `count` − 1 once per epoch, in a different order every epoch.

    A row number is a cell of a table with about √count lines and columns. Each round moves the column (cyclically) by a
    pseudo-random number that depends on the line, then the line by one that depends on the column. This is a Feistel
    network, so it is a permutation of the cells. A cell beyond the last row is permuted again until it is a row.

    Grain's shuffle (0.2.18) is not used because it takes 4 µs per row, and half a millisecond for a batch of 80 rows;
    this one takes 0.2 µs per row. For 4^k + 1 rows (k ≥ 8), Grain's shuffle also returns one row twice and omits
    another.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count = np.uint64(count)
        width = math.isqrt(max(count - 1, 0)) + 1
        self._width, self._height = np.uint64(width), np.uint64(-(-count // width))
        self._keys = np.random.SeedSequence(seed).generate_state(_ROUNDS, np.uint64)[:, None]

    def take(self, places: Array) -> Array:
        """Return the row numbers `[n]`, int64, at the positions `places` (`[n]`, below 2^63) of the sequence."""
        epochs, rows = np.divmod(places.astype(np.uint64), self._count)
        keys = self._keys + epochs * _EPOCH
        rows = self._permute(rows, keys)
        while (outside := np.flatnonzero(rows >= self._count)).size:
            rows[outside] = self._permute(rows[outside], keys[:, outside])
        return rows.astype(np.int64)

    def _permute(self, cells: Array, keys: Array) -> Array:
        """Return the cells `[n]` to which `keys` `[rounds, n]` move `cells`."""
        line, column = np.divmod(cells, self._width)
        other, fixed, size = column, line, (self._width, self._height)
        for turn, key in enumerate(keys):
            mixed = (fixed + key) * _MIX
            mixed ^= mixed >> _HALF
            mixed *= _MIX_AGAIN
            mixed >>= _HALF
            mixed += other
            mixed %= size[turn % 2]
            other, fixed = fixed, mixed
        return fixed * self._width + other


class BlockOrder:
    """An order like `Shuffle` for rows in blocks that are slow to read: it needs only a few blocks at a time.

    An epoch visits the blocks in random order, `window` blocks at a time, and the rows of a window in random order.
    Neighbouring positions need the same blocks.
    """

    def __init__(self, starts: Array, window: int, seed: int) -> None:
        """Plan the order; `starts` `[blocks + 1]` are the first row of each block, and the number of rows."""
        self._starts = starts
        self._window = window
        self._seed = seed
        # Neighbouring positions are requested one after the other, so the last plan usually applies.
        self._epoch = functools.lru_cache(2)(self._plan_epoch)
        self._rows = functools.lru_cache(2)(self._plan_window)

    def take(self, places: Array) -> Array:
        """Return the row numbers `[n]`, int64, at the positions `places` `[n]` of the sequence."""
        return np.array([self._row(place) for place in places.tolist()], np.int64)

    def _row(self, place: int) -> int:
        epoch, place = divmod(place, int(self._starts[-1]))
        _, begins = self._epoch(epoch)
        window = int(np.searchsorted(begins, place, side="right")) - 1
        return int(self._rows(epoch, window)[place - begins[window]])

    def _plan_epoch(self, epoch: int) -> tuple[Array, Array]:
        """Return the order of the blocks, and the position in the epoch at which each window starts."""
        blocks = np.random.default_rng([self._seed, epoch]).permutation(len(self._starts) - 1)
        ends = np.cumsum(np.diff(self._starts)[blocks])
        return blocks, np.concatenate([[0], ends[self._window - 1 : -1 : self._window]])

    def _plan_window(self, epoch: int, window: int) -> Array:
        """Return the rows of a window in random order."""
        blocks = self._epoch(epoch)[0][window * self._window : (window + 1) * self._window]
        bounds = zip(self._starts[blocks].tolist(), self._starts[blocks + 1].tolist(), strict=True)
        rows = np.concatenate([np.arange(start, stop) for start, stop in bounds])
        return np.random.default_rng([self._seed, epoch, window]).permutation(rows)
