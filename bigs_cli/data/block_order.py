"""A random order of rows that lie in blocks which are costly to open: few blocks are in use at a time."""

from __future__ import annotations

import functools
import sys
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class BlockOrder:
    """An endless sequence of row numbers: every row once an epoch, each epoch in an order of its own.

    An epoch goes through all blocks in random order, `window` of them at a time, and through the rows of these in
    random order. Any place of the sequence can be asked for; places near each other need the same blocks.
    """

    def __init__(self, starts: Array, window: int, seed: int) -> None:
        """`starts` `[blocks + 1]`: the number of each block's first row, and of the row after the last."""
        self._starts = starts
        self._window = window
        self._seed = seed
        # The neighbours in the sequence come next: the last plan is mostly the one wanted.
        self._epoch = functools.lru_cache(2)(self._plan_epoch)
        self._rows = functools.lru_cache(2)(self._plan_window)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, place: int) -> int:
        epoch, place = divmod(place, int(self._starts[-1]))
        _, begins = self._epoch(epoch)
        window = int(np.searchsorted(begins, place, side="right")) - 1
        return int(self._rows(epoch, window)[place - begins[window]])

    def _plan_epoch(self, epoch: int) -> tuple[Array, Array]:
        """Return the order of the blocks, and the place in the epoch where each window of them begins."""
        blocks = np.random.default_rng([self._seed, epoch]).permutation(len(self._starts) - 1)
        ends = np.cumsum(np.diff(self._starts)[blocks])
        return blocks, np.concatenate([[0], ends[self._window - 1 : -1 : self._window]])

    def _plan_window(self, epoch: int, window: int) -> Array:
        """Return the rows of a window in their order."""
        blocks = self._epoch(epoch)[0][window * self._window : (window + 1) * self._window]
        bounds = zip(self._starts[blocks].tolist(), self._starts[blocks + 1].tolist(), strict=True)
        rows = np.concatenate([np.arange(start, stop) for start, stop in bounds])
        return np.random.default_rng([self._seed, epoch, window]).permutation(rows)
