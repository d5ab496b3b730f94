"""A random order of any number of rows that is computed, not stored: the place in it is all one needs to know.

Grain's shuffle is such an order too, but not for us (0.2.18). A row takes it 4 µs or much more, depending on how many
there are: of 80 rows each takes half a millisecond, as numbers of 16 bits are drawn until one is below 80. Here it is
0.2 µs for any number of rows, 256 at a time. And of 4^k + 1 rows (k ≥ 8) Grain gives one twice and the last never.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_ROUNDS = 10  # From 32 rows on, places and differences of neighbours are as of drawn permutations; see the tests.
_HALF = np.uint64(32)
# Odd numbers without a pattern in their bits: those of SplitMix64 (Steele, Lea and Flood, 2014).
_EPOCH, _MIX, _MIX_AGAIN = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)


class Shuffle:
    """An endless sequence of row numbers: each of 0 … `count` − 1 once an epoch, every epoch in an order of its own.

    A row is a cell of a table of about √count lines and columns. In turns, the column is moved (around the table) by a
    random number that hangs on the line, and the line by one that hangs on the column: a Feistel network, so that
    different cells stay different. From a cell of the last line that stands for no row one goes on in the same way.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count = np.uint64(count)
        width = math.isqrt(max(count - 1, 0)) + 1
        self._width, self._height = np.uint64(width), np.uint64(-(-count // width))
        self._keys = np.random.SeedSequence(seed).generate_state(_ROUNDS, np.uint64)[:, None]

    def take(self, places: Array) -> Array:
        """Return the row numbers `[n]` at `places` (`[n]`, below 2^63) of the sequence, int64."""
        epochs, rows = np.divmod(places.astype(np.uint64), self._count)
        keys = self._keys + epochs * _EPOCH
        rows = self._permute(rows, keys)
        while (outside := np.flatnonzero(rows >= self._count)).size:
            rows[outside] = self._permute(rows[outside], keys[:, outside])
        return rows.astype(np.int64)

    def _permute(self, cells: Array, keys: Array) -> Array:
        """Return the cells `[n]` that `cells` go to with `keys` `[rounds, n]`."""
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
