"""The authors' HDF5 files: rows equal to those of their loader, reading in blocks, and conversion."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.data import hdf5_rows
from bigs_cli.data.hdf5 import convert_hdf5, is_hdf5_folder, open_hdf5
from bigs_cli.data.hdf5_rows import read_rows, split_of
from bigs_cli.data.loader import heldout_batches, train_batches
from bigs_cli.data.order import BlockOrder
from bigs_cli.data.shards import open_shards
from bigs_cli.data.verify import verify
from tests.data.hdf5_files import MASK, PAD, Arrays, P, masked, opened, originals, write, write_vocab


def dense_labels(batch: Arrays) -> np.ndarray[Any, Any]:
    """Return the labels as `[B, L]`, with −1 where nothing is predicted."""
    dense = np.full(batch["input_ids"].shape, -1)
    row, slot = np.nonzero(batch["positions"])
    dense[row, batch["positions"][row, slot]] = batch["labels"][row, slot]
    return dense


def test_rows_equal_those_of_the_original_loader(shared: Path, tmp_path: Path) -> None:
    name = "train_shard_0"
    expected = np.load(shared / "fixtures" / f"{name}_maxpred20.npz")
    shutil.copy(shared / "fixtures" / f"{name}.hdf5", tmp_path)
    write_vocab(tmp_path)
    rows = opened(tmp_path).split("train")
    got = rows.take(np.arange(len(rows)))
    for field in ("input_ids", "attention_mask", "token_type_ids"):
        np.testing.assert_array_equal(got[field], expected[field])
    np.testing.assert_array_equal(dense_labels(got), expected["labels"])
    # The published loss counts labels above 0: exactly these have a weight.
    assert got["weights"].sum() == (expected["labels"] > 0).sum()
    np.testing.assert_array_equal(got["weights"] > 0, got["labels"] > 0)

    batch = next(train_batches(opened(tmp_path).split("train"), 16, seed=3))
    order = [int(np.flatnonzero((got["input_ids"] == row).all(1))[0]) for row in batch["input_ids"]]
    assert sorted(order) == list(range(16)) != order
    for field, values in batch.items():
        np.testing.assert_array_equal(values, got[field][order])

    # Converted rows have the original words; a position after the first 0 is not in the list.
    convert_hdf5(opened(tmp_path), tmp_path / "shards", heldout=0)
    shards = open_shards(tmp_path / "shards").split("train")
    text = np.where(expected["labels"] >= 0, expected["labels"], expected["input_ids"])
    np.testing.assert_array_equal(
        shards.take(np.arange(16))["input_ids"], np.where(expected["attention_mask"], text, PAD)
    )


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train_shard_0.hdf5", "train"),
        ("contest_train.hdf5", "train"),
        ("training-0.hdf5", "train"),
        ("wiki.Train.7.h5", "train"),
        ("shard0train.h5", "train"),
        ("test_shard_12.hdf5", "heldout"),
        ("wiki-testing3.h5", "heldout"),
        ("latest_3.hdf5", None),
        ("constrained.hdf5", None),
        ("dev_0.hdf5", None),
    ],
)
def test_the_split_is_taken_from_the_file_name(name: str, split: str | None) -> None:
    assert split_of(Path(name)) == split


def test_a_name_with_both_splits_is_refused() -> None:
    with pytest.raises(RequestError, match=r"test_from_train\.hdf5 contains both train and test"):
        split_of(Path("test_from_train.hdf5"))


def test_files_without_a_split_in_the_name_are_skipped_with_a_note(corpus: Path) -> None:
    shutil.copy(corpus / "train_0.hdf5", corpus / "latest_3.hdf5")
    shutil.copy(corpus / "train_0.hdf5", corpus / ".train_hidden.hdf5")
    messages: list[str] = []
    found = open_hdf5(corpus, opened(corpus).tokenizer(), messages.append)
    assert [file.path.name for file in found.files] == ["test_0.hdf5", "train_0.hdf5", "train_1.hdf5"]
    assert messages == [f"{corpus / 'latest_3.hdf5'} is skipped: its name contains neither train nor test."]
    assert is_hdf5_folder(corpus)
    (corpus / "train_9.hdf5").symlink_to("nowhere.hdf5")
    open_hdf5(corpus, opened(corpus).tokenizer(), messages.append)
    assert messages[2:] == [f"{corpus / 'train_9.hdf5'} is skipped: it is a broken link."]
    assert not is_hdf5_folder(corpus.parent)
    assert not is_hdf5_folder(corpus / "train_0.hdf5")
    (corpus / "manifest.json").touch()
    assert not is_hdf5_folder(corpus), "token shards were made in it"


# --- order ----------------------------------------------------------------------------------------------------------


def numbers(batches: list[Arrays], rows: Arrays) -> list[int]:
    """Return the indices in `rows` of the rows of the batches."""
    known = {row.tobytes(): number for number, row in enumerate(rows["input_ids"])}
    return [known[row.tobytes()] for batch in batches for row in batch["input_ids"]]


@pytest.mark.usefixtures("small_blocks")
def test_every_epoch_has_every_row_once_for_any_number_of_processes(corpus: Path) -> None:
    rows = opened(corpus).split("train").take(np.arange(31))
    batches = train_batches(opened(corpus).split("train"), 8, seed=0)
    drawn = [next(batches) for _ in range(12)]
    stream = numbers(drawn, rows)
    epochs = [stream[31 * epoch : 31 * (epoch + 1)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(31)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    other = train_batches(opened(corpus).split("train"), 8, seed=1)
    assert numbers([next(other) for _ in range(3)], rows) != stream[:24]

    parts = [train_batches(opened(corpus).split("train"), 8, 0, mine=np.arange(p, 8, 2)) for p in range(2)]
    again = train_batches(opened(corpus).split("train"), 8, 0)
    for _ in range(5):
        next(again)
    state = json.loads(json.dumps(again.get_state()))
    later = train_batches(opened(corpus).split("train"), 8, 0, start_state=state)
    for number, batch in enumerate(drawn):
        for p, part in enumerate(parts):
            for field, values in next(part).items():
                np.testing.assert_array_equal(values, batch[field][p::2])
        if number >= 5:
            for field, values in next(later).items():
                np.testing.assert_array_equal(values, batch[field])


@pytest.mark.usefixtures("small_blocks")
def test_a_block_is_read_about_once_per_epoch(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: Counter[tuple[str, int]] = Counter()

    def counting(file: Any, start: int, stop: int, vocab_size: int) -> Any:
        reads[file.path.name, start] += 1
        return read_rows(file, start, stop, vocab_size)

    corpus_ = opened(corpus)
    monkeypatch.setattr(hdf5_rows, "read_rows", counting)
    rows = corpus_.split("train")
    order = rows.order(seed=0)
    for start in range(0, 31 * 4, 4):
        rows.take(order(np.arange(start, start + 4)))
    assert len(reads) == 7 + 4
    # At the start of an epoch, a block of the previous one may still be in memory.
    assert all(3 <= count <= 4 for count in reads.values())


def test_the_order_shuffles_the_blocks_of_one_window_at_a_time() -> None:
    starts = np.array([0, 10, 20, 30, 37, 47])
    order = BlockOrder(starts, 2, seed=5)
    first, second = (order.take(np.arange(47 * epoch, 47 * (epoch + 1))).tolist() for epoch in range(2))
    assert sorted(first) == sorted(second) == list(range(47))
    blocks = np.searchsorted(starts, first, side="right") - 1
    assert len(set(blocks[:17])) == 2, "the first window is two blocks"
    assert (np.diff(blocks[:17]) != 0).sum() > 3, "shuffled into each other"
    # Positions can be read in any order.
    assert order.take(np.arange(94)[::-1]).tolist() == [*reversed(second), *reversed(first)]


def test_files_with_fewer_slots_are_padded_and_held_out_rows_stay_in_order(corpus: Path) -> None:
    arrays = masked(originals(5, seed=7))
    few = {name: values[:, :2] if name.startswith("masked") else values for name, values in arrays.items()}
    write(corpus / "test_1.h5", few)
    batches = list(heldout_batches(opened(corpus).split("heldout"), 8))
    assert [int(valid.sum()) for _, valid in batches] == [8, 6]
    assert all(batch["positions"].shape == (8, P) for batch, _ in batches)
    last = batches[1][0]
    np.testing.assert_array_equal(last["input_ids"][1:6], arrays["input_ids"])
    np.testing.assert_array_equal(last["positions"][1:6, :2], few["masked_lm_positions"])
    assert not last["weights"][1:6, 2:].any()


def test_conversion_restores_masked_tokens(corpus: Path, tmp_path: Path) -> None:
    tokens: list[int] = []
    manifest = convert_hdf5(opened(corpus), tmp_path / "out", heldout=0.5, advance=tokens.append)
    shards = open_shards(tmp_path / "out")
    verify(shards)
    text = {"train": np.concatenate([originals(20, 0), originals(11, 1)]), "heldout": originals(9, 2)}
    for split in ("train", "heldout"):
        rows = shards.split(split)
        np.testing.assert_array_equal(rows.take(np.arange(len(rows)))["input_ids"], text[split])
    every = np.concatenate([*text.values()])
    report = manifest.report
    assert manifest == shards.manifest
    assert (manifest.packing, manifest.sources) == (None, (str(corpus),))
    assert report.tokens == sum(tokens) == (every > MASK).sum()
    assert report.sequences == 40
    assert report.fill_rate == pytest.approx((every != PAD).mean())
    with pytest.raises(RequestError, match="already contains token shards"):
        convert_hdf5(opened(corpus), tmp_path / "out", heldout=0.5)


def test_without_test_files_all_copies_of_a_row_are_in_one_split(corpus: Path, tmp_path: Path) -> None:
    (corpus / "test_0.hdf5").unlink()
    write(corpus / "train_2.hdf5", masked(originals(20, 0), seed=9))  # the same text as train_0, masked differently
    convert_hdf5(opened(corpus), tmp_path / "out", heldout=0.3)
    shards = open_shards(tmp_path / "out")
    train, held = (shards.split(split) for split in ("train", "heldout"))
    assert len(train) + len(held) == 51
    assert 5 <= len(held) <= 25
    texts = [{row.tobytes() for row in rows.take(np.arange(len(rows)))["input_ids"]} for rows in (train, held)]
    assert not texts[0] & texts[1]
    convert_hdf5(opened(corpus), tmp_path / "out", heldout=0, overwrite=True)
    assert open_shards(tmp_path / "out").manifest.rows("heldout") == 0
    with pytest.raises(RequestError, match=r"--heldout 1e-09 leaves none to hold out"):
        convert_hdf5(opened(corpus), tmp_path / "new", heldout=1e-9)
    assert not (tmp_path / "new").exists()
