"""Training and held-out batches from token shards, through Grain.

Training reads one endless stream: every row once an epoch, each epoch in its own order over all rows, epochs one
after the other without a gap. A batch is the next rows of the stream, whichever processes share it out, and its
number is all there is to the stream's state.

The order is computed from seed, epoch and place (`Shuffle`), and rows are gathered by the hundred (`take`): starting
takes as long with ten billion rows as with ten, and so does a batch. Grain counts the batches and reads ahead.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.manifest import Split
from bigs_cli.data.order import Shuffle

if TYPE_CHECKING:
    import grain

_PREFETCHED = 16
# Gathering is bound by the interpreter's lock while pages are in memory: four threads were half as fast as one.
_THREADS = 1
_TOGETHER = 256  # rows: few enough for a start from a cold disk, which takes a millisecond for each

Array = np.ndarray[Any, Any]
Batch = TypeVar("Batch", covariant=True)


class RowSource(Protocol[Batch]):
    """Rows to draw batches from."""

    def __len__(self) -> int: ...

    def take(self, indices: Array, /) -> Batch:
        """Return copies of the rows at `indices` (int64 `[B]`, in any order, repeated or not).

        An array `[B, …]`, or a dict of such arrays. Several threads may call it at once.
        """
        ...


@runtime_checkable
class Ordered(Protocol):
    """Rows with an order of their own to train in, because they are costly to read in any other."""

    def order(self, seed: int, /) -> Any:
        """Return the rows' numbers by place, all of them once an epoch; its length is `sys.maxsize`."""
        ...


class Splits(Protocol[Batch]):
    """What batches are read from: a set of shards, or anything else that has its splits."""

    def split(self, name: Split, /) -> RowSource[Batch]:
        """Return the rows of "train" or "heldout".

        Raises:
            RequestError: there are none.
        """
        ...


def train_batches(
    shards: Splits[Batch],
    batch_size: int,
    seed: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    mine: Array | None = None,
    start_state: dict[str, Any] | None = None,
) -> grain.DatasetIterator[Batch]:
    """Return an endless iterator over training batches: `[B / process_count, L]` in the shards' type.

    Process p is given rows p, p + count, p + 2·count, … of every global batch of `batch_size` rows, so that the
    global batches do not depend on the number of processes; `mine` (ascending places in the batch) gives it others,
    which several processes may share. The iterator's `get_state()` is a small dict that JSON can hold, the same in all
    processes; `set_state`, or `start_state` here, goes on from there.

    Raises:
        RequestError: there are no training rows, or the processes cannot share the batch evenly.
    """
    import grain

    if batch_size % process_count:
        raise RequestError(
            f"batch_size {batch_size} cannot be shared evenly by {process_count} processes. Choose a multiple."
        )
    rows = shards.split("train")
    mine = np.arange(process_index, batch_size, process_count) if mine is None else mine
    read = _reader(rows, _order(rows, seed), batch_size, mine)
    batches = grain.MapDataset.range(sys.maxsize // batch_size).map(read)
    iterator = iter(batches.to_iter_dataset(grain.ReadOptions(_THREADS, _PREFETCHED)))
    if start_state is not None:
        iterator.set_state(start_state)
    return iterator


def heldout_batches(shards: Splits[Batch], batch_size: int, split: Split = "heldout") -> Iterator[tuple[Batch, Array]]:
    """Yield every row of a split once, in order, as (rows `[B, L]`, valid `[B]` bool); the last batch is filled up.

    Filler rows repeat the last row and are not valid.

    Raises:
        RequestError: the split has no rows.
    """
    rows = shards.split(split)
    for start in range(0, len(rows), batch_size):
        places = np.arange(start, start + batch_size)
        yield rows.take(np.minimum(places, len(rows) - 1)), places < len(rows)


def _reader(
    rows: RowSource[Batch], order: Callable[[Array], Array], batch_size: int, mine: Array
) -> Callable[[int], Batch]:
    """Return the function from a batch's number to the batch, of whose `batch_size` rows those at `mine` are given.

    Small batches are gathered several at a time and handed out in parts: to open a batch costs as much as some dozens
    of rows, and more the more shards there are.
    """
    together = max(1, _TOGETHER // len(mine))
    places = (np.arange(together)[:, None] * batch_size + mine).ravel()

    @functools.lru_cache(maxsize=2)
    def gather(number: int) -> Any:
        return rows.take(order(number * together * batch_size + places))

    def read(number: int) -> Any:
        block, place = divmod(number, together)
        part, gathered = slice(place * len(mine), (place + 1) * len(mine)), gather(block)
        if isinstance(gathered, dict):
            return {name: values[part] for name, values in gathered.items()}
        return gathered[part]

    return read


def _order(rows: RowSource[Any], seed: int) -> Callable[[Array], Array]:
    """Return the function from places in the stream `[n]` to the numbers of the rows there."""
    if isinstance(rows, Ordered):
        order = rows.order(seed)
        return lambda places: np.array([order[place] for place in places.tolist()], np.int64)
    return Shuffle(len(rows), seed).take
