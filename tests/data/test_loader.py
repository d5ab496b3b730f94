"""Batches: one stream with every row once per epoch, for any number of processes and any starting point."""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli.data import loader
from bigs_cli.data.corpus import Array, Batch
from bigs_cli.data.loader import heldout_batches, train_batches
from bigs_cli.data.order import Shuffle
from bigs_cli.data.shards import Shards, open_shards
from tests.data.tiny import numbered, write_shards

N = 45  # training rows, in shards of 7


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("loader") / "shards"
    return open_shards(write_shards(folder, numbered(N), numbered(17, first=N)))


class Numbers:
    """A corpus of any size: `count` rows, each of which contains its own number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def order(self, seed: int) -> Callable[[Array], Array]:
        return Shuffle(self.count, seed).take

    def take(self, indices: Array) -> Batch:
        return {"row": np.array(indices), "twice": 2 * indices}


def drawn(batches: Any, count: int) -> list[int]:
    """Return the numbers of the next `count` rows, and of a few more to the end of a batch."""
    rows: list[int] = []
    while len(rows) < count:
        batch = next(batches)
        rows += (batch["row"] if "row" in batch else batch["input_ids"][:, 0]).tolist()
    return rows


def test_rows_are_taken_in_any_order_from_any_shard(shards: Shards) -> None:
    rows = shards.split("train")
    assert len(rows) == N
    for indices in ([0], [44, 0, 7, 6, 44, 13, 14], [], list(range(N))):
        taken = rows.take(np.array(indices, np.int64))["input_ids"]
        np.testing.assert_array_equal(taken, numbered(N)[indices])
        assert taken.dtype == np.uint16
        assert taken.flags.owndata  # not a view of a file, which would be read from disk later
    for wrong in ([0, N], [-1]):
        with pytest.raises(IndexError, match="of 45"):
            rows.take(np.array(wrong))


def test_every_epoch_has_every_row_in_a_different_order(shards: Shards) -> None:
    stream = drawn(train_batches(shards.split("train"), 8, seed=3), 3 * N)
    epochs = [stream[start : start + N] for start in (0, N, 2 * N)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(N))] * 3
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[0] != list(range(N))


def test_seeds_and_epochs_have_different_orders(shards: Shards) -> None:
    streams = [drawn(train_batches(shards.split("train"), 5, seed), 3 * N) for seed in range(4)]
    epochs = [tuple(stream[start : start + N]) for stream in streams for start in (0, N, 2 * N)]
    assert len(set(epochs)) == 12


@pytest.mark.parametrize("processes", [2, 4])
def test_global_batches_are_the_same_for_any_number_of_processes(shards: Shards, processes: int) -> None:
    whole = train_batches(shards.split("train"), 8, seed=0)
    parts = [train_batches(shards.split("train"), 8, 0, mine=np.arange(p, 8, processes)) for p in range(processes)]
    for _ in range(30):
        batch = next(whole)["input_ids"]
        for p, part in enumerate(parts):
            np.testing.assert_array_equal(next(part)["input_ids"], batch[p::processes])


def test_batches_are_the_same_for_any_number_of_threads(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = drawn(train_batches(shards.split("train"), 8, seed=0), 4 * N)
    for threads, prefetched in ((4, 16), (7, 3), (0, 0)):
        monkeypatch.setattr(loader, "_THREADS", threads)
        monkeypatch.setattr(loader, "_PREFETCHED", prefetched)
        assert drawn(train_batches(shards.split("train"), 8, seed=0), 4 * N) == expected


def test_the_stream_does_not_depend_on_the_batch_size(shards: Shards) -> None:
    streams = [
        drawn(train_batches(shards.split("train"), size, seed=0), 2000)[:2000] for size in (1, 7, 32, 100, 256, 300)
    ]
    assert all(stream == streams[0] for stream in streams)


def test_state_continues_the_stream_across_epochs_and_process_counts(shards: Shards) -> None:
    batches = train_batches(shards.split("train"), 8, seed=0)
    for _ in range(N // 8 - 1):
        next(batches)
    state = json.loads(json.dumps(batches.get_state()))
    assert len(json.dumps(state)) < 100
    expected = [next(batches) for _ in range(4)]
    again = train_batches(shards.split("train"), 8, seed=0, start_state=state)
    half = train_batches(shards.split("train"), 8, seed=0, mine=np.arange(1, 8, 2), start_state=state)
    for batch in expected:
        np.testing.assert_array_equal(next(again)["input_ids"], batch["input_ids"])
        np.testing.assert_array_equal(next(half)["input_ids"], batch["input_ids"][1::2])


def test_heldout_batches_have_every_row_once(shards: Shards) -> None:
    batches = list(heldout_batches(shards.split("heldout"), 7))
    assert all(batch["input_ids"].shape == (7, 4) and valid.shape == (7,) for batch, valid in batches)
    seen = np.concatenate([batch["input_ids"][valid] for batch, valid in batches])
    np.testing.assert_array_equal(seen, numbered(17, first=N))


def test_rows_may_have_several_arrays() -> None:
    batch = next(train_batches(Numbers(9), 4, seed=0))
    np.testing.assert_array_equal(batch["twice"], 2 * batch["row"])
    *_, (last, valid) = heldout_batches(Numbers(9), 4)
    assert last["row"].tolist() == [8, 8, 8, 8]
    assert valid.tolist() == [True, False, False, False]


def test_a_corpus_may_define_its_own_order() -> None:
    class Backwards(Numbers):
        def order(self, seed: int) -> Callable[[Array], Array]:
            return lambda places: (seed - places) % 9

    batches = train_batches(Backwards(9), 4, seed=3, mine=np.array([1, 3]))
    assert [next(batches)["row"].tolist() for _ in range(3)] == [[2, 0], [7, 5], [3, 1]]


@pytest.mark.parametrize("count", [1, 2, 3, 5, (1 << 16) + 1])
def test_every_number_of_rows_is_shuffled_completely(count: int) -> None:
    stream = drawn(train_batches(Numbers(count), 1 if count < 10 else 256, seed=1), 2 * count)
    for epoch in (stream[:count], stream[count : 2 * count]):
        assert sorted(epoch) == list(range(count))


@pytest.mark.parametrize("count", [1 << 32, (1 << 32) + 1, 10**10])
def test_ten_billion_rows_are_shuffled_like_ten(count: int) -> None:
    def some(state: int | None = None) -> list[int]:
        start = None if state is None else {"next_index": state}
        return drawn(train_batches(Numbers(count), 100, seed=0, start_state=start), 5000)

    first, later, second_epoch = some(), some(count // 100 - 200), some(count // 100 + 1)
    assert len({*first, *later[:5000]}) == 10_000
    assert first != second_epoch
    # Rows of each quarter are equally frequent: 1250 ± 5 standard deviations.
    for rows in (first, second_epoch):
        assert 0 <= min(rows) <= max(rows) < count
        assert np.abs(np.histogram(rows, 4, (0, count))[0] - 1250).max() < 155
    assert max(first) > 1 << 31  # so the order is not limited to 31 bits


def test_more_shards_than_the_limit_of_open_files(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "many", numbered(300), numbered(1, first=300), shard_rows=1)
    script = f"""
import resource, sys
import numpy as np
resource.setrlimit(resource.RLIMIT_NOFILE, (100, int(sys.argv[1])))
from bigs_cli.core.errors import BigsError
from bigs_cli.data.shards import open_shards
try:
    print(open_shards({str(folder)!r}).split("train").take(np.arange(300))["input_ids"][:, 0].sum())
except BigsError as error:
    print(error)
"""

    def answer(hard: int) -> str:
        return subprocess.run([sys.executable, "-c", script, str(hard)], capture_output=True, text=True).stdout

    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 2000:
        assert answer(2000).strip() == str(sum(range(300)))
    refused = answer(100)
    assert "Too many open files, 300 files" in refused
    assert "ulimit -n" in refused


def test_earlier_batches_are_not_overwritten(shards: Shards) -> None:
    batches = train_batches(shards.split("train"), 8, seed=0)
    kept = list(itertools.islice(batches, 20))
    copies = [batch["input_ids"].copy() for batch in kept]
    drawn(batches, 400)
    for batch, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(batch["input_ids"], copy)
