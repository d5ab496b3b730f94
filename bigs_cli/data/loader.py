"""Training and held-out batches from token shards, through Grain.

Training reads one endless stream: every row once an epoch, each epoch in its own order over all rows, epochs one
after the other without a gap. A batch is the next rows of the stream, whichever processes share it out, and its
number is all there is to the stream's state.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.shards import Shards

if TYPE_CHECKING:
    import grain

_PREFETCHED = 16
_THREADS = 1


def train_batches(
    shards: Shards,
    batch_size: int,
    seed: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    start_state: dict[str, Any] | None = None,
) -> grain.DatasetIterator[np.ndarray]:
    """Return an endless iterator over training batches `[B / process_count, L]` in the shards' type.

    Process p is given rows p, p + count, p + 2·count, … of every global batch of `batch_size` rows, so that the
    global batches do not depend on the number of processes. The iterator's `get_state()` is a small dict that
    JSON can hold, the same in all processes; `set_state`, or `start_state` here, goes on from there.

    Raises:
        RequestError: the processes cannot share the batch evenly.
    """
    import grain

    if batch_size % process_count:
        raise RequestError(
            f"batch_size {batch_size} cannot be shared evenly by {process_count} processes. Choose a multiple."
        )
    stream = grain.MapDataset.source(shards.split("train")).shuffle(seed).repeat(None)
    mine = stream.slice(slice(process_index, None, process_count))
    batches = mine.batch(batch_size // process_count)
    iterator = iter(batches.to_iter_dataset(grain.ReadOptions(_THREADS, _PREFETCHED)))
    if start_state is not None:
        iterator.set_state(start_state)
    return iterator


def heldout_batches(shards: Shards, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield every held-out row once, in order, as (rows `[B, L]`, valid `[B]` bool); the last batch is filled up.

    Filler rows repeat the last row and are not valid.
    """
    rows = shards.split("heldout")
    for start in range(0, len(rows), batch_size):
        places = np.arange(start, start + batch_size)
        valid = places < len(rows)
        yield np.stack([rows[i] for i in np.minimum(places, len(rows) - 1)]), valid
