"""Training and validation batches of a corpus, with Grain.

Training reads an endless stream: every row once per epoch, each epoch in a different random order, without a gap
between epochs. A batch consists of the next rows of the stream, so the batch number is the complete state of the
stream, for any number of processes.

The order is computed from seed, epoch and position (`Rows.order`), and rows are gathered in groups (`Rows.take`). The
time to start and the time per batch do not depend on the number of rows. Grain counts the batches and prefetches.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.data.corpus import Array, Batch, Rows

if TYPE_CHECKING:
    import grain

_PREFETCHED = 16
# When the pages are in memory, the GIL limits gathering: four threads were half as fast as one.
_THREADS = 1
# Number of rows gathered at once: few enough that training starts quickly with a cold disk cache, where reading a row
# takes a millisecond.
_TOGETHER = 256


def train_batches(
    rows: Rows, batch_size: int, seed: int, *, mine: Array | None = None, start_state: dict[str, Any] | None = None
) -> grain.DatasetIterator[Batch]:
    """Return an endless iterator over training batches of `batch_size` rows.

    `mine` are the positions in each batch (ascending) that this process reads; None: all. The iterator's `get_state()`
    is a small dict for JSON, the same in all processes; `set_state`, or `start_state` here, continues from it.
    """
    import grain

    read = _reader(rows, rows.order(seed), batch_size, np.arange(batch_size) if mine is None else mine)
    batches = grain.MapDataset.range(sys.maxsize // batch_size).map(read)
    iterator = iter(batches.to_iter_dataset(grain.ReadOptions(_THREADS, _PREFETCHED)))
    if start_state is not None:
        iterator.set_state(start_state)
    return iterator


def heldout_batches(rows: Rows, batch_size: int) -> Iterator[tuple[Batch, Array]]:
    """Yield every row once, in order, as (batch of `batch_size` rows, valid `[B]` bool).

    The last batch is padded with copies of the last row, which are not valid.
    """
    for start in range(0, len(rows), batch_size):
        places = np.arange(start, start + batch_size)
        yield rows.take(np.minimum(places, len(rows) - 1)), places < len(rows)


def _reader(rows: Rows, order: Callable[[Array], Array], batch_size: int, mine: Array) -> Callable[[int], Batch]:
    """Return a function from the number of a batch to its rows at `mine`.

    Small batches are gathered several at a time: the overhead of a batch is the time of a few dozen rows, or more
    if there are many shards.
    """
    together = max(1, _TOGETHER // len(mine))
    places = (np.arange(together)[:, None] * batch_size + mine).ravel()

    @functools.lru_cache(maxsize=2)
    def gather(number: int) -> Batch:
        return rows.take(order(number * together * batch_size + places))

    def read(number: int) -> Batch:
        block, place = divmod(number, together)
        part = slice(place * len(mine), (place + 1) * len(mine))
        return {name: values[part] for name, values in gather(block).items()}

    return read
