"""The authors' HDF5 files: read as their loader read them, trained on as they are, converted, or refused."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.data import hdf5
from bigs_cli.data.block_order import BlockOrder
from bigs_cli.data.hdf5 import HDF5Corpus, hdf5_tokenizer, is_hdf5_folder, open_hdf5
from bigs_cli.data.hdf5_convert import convert_hdf5
from bigs_cli.data.hdf5_file import inspect, read_rows, split_of
from bigs_cli.data.loader import heldout_batches, train_batches
from bigs_cli.data.shards import open_shards
from bigs_cli.data.tokenizer import RESERVED, load_tokenizer
from bigs_cli.data.verify import verify
from bigs_cli.reporting.metrics_log import read_metrics
from tests.tiny import LENGTH, bigs, settings, snapshot

V, P = 1000, 6
PAD, UNK, CLS, SEP, MASK = 0, 100, 101, 102, 103
Arrays = dict[str, np.ndarray[Any, Any]]


def originals(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Rows `[n, L]` of a made-up text, the last quarter of every second row being padding."""
    rows = np.random.default_rng(seed).integers(104, V, (count, LENGTH))
    rows[:, 0] = CLS
    ends = np.where(np.arange(count) % 2, LENGTH, 3 * LENGTH // 4)
    rows[np.arange(count), ends - 1] = SEP
    rows[np.arange(LENGTH) >= ends[:, None]] = PAD
    return rows


def masked(rows: np.ndarray[Any, Any], seed: int = 0) -> Arrays:
    """The data sets of a file: in every row one to P words are masked."""
    random = np.random.default_rng(seed)
    positions = np.zeros((len(rows), P), np.int32)
    for place in positions:
        chosen = random.integers(1, P + 1)
        place[:chosen] = np.sort(random.choice(np.arange(1, 3 * LENGTH // 4 - 1), chosen, replace=False))
    labels = np.where(positions > 0, np.take_along_axis(rows, positions, 1), 0)
    inputs = rows.copy()
    np.put_along_axis(inputs, positions, np.where(positions > 0, MASK, rows[:, :1]), 1)
    return {
        "input_ids": inputs.astype(np.int32),
        "input_mask": (rows != PAD).astype(np.int8),
        "segment_ids": (np.arange(LENGTH) >= LENGTH // 2) * np.ones((len(rows), 1), np.int8),
        "masked_lm_positions": positions,
        "masked_lm_ids": labels.astype(np.int32),
        "next_sentence_labels": np.zeros(len(rows), np.int8),
    }


def write(path: Path, arrays: Arrays) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression="gzip")
    return path


def write_vocab(folder: Path) -> None:
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in [*RESERVED, *(f"w{i}" for i in range(104, V))]))


def opened(folder: Path) -> HDF5Corpus:
    return open_hdf5(folder, load_tokenizer(folder))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two files of 20 and 11 rows to train on, one of 9 to test with, and their vocabulary."""
    folder = tmp_path / "corpus"
    for name, count, seed in (("train_0", 20, 0), ("train_1", 11, 1), ("test_0", 9, 2)):
        write(folder / f"{name}.hdf5", masked(originals(count, seed), seed))
    write_vocab(folder)
    return folder


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows a block, two blocks a window."""
    monkeypatch.setattr(hdf5, "_BLOCK_BYTES", 3 * hdf5._row_bytes(LENGTH, P))
    monkeypatch.setattr(hdf5, "_WINDOW", 2)


# --- as the original reads them -------------------------------------------------------------------------------------


def dense_labels(batch: Arrays) -> np.ndarray[Any, Any]:
    """The labels as `[B, L]`, −1 where nothing is predicted."""
    dense = np.full(batch["input_ids"].shape, -1)
    row, slot = np.nonzero(batch["positions"])
    dense[row, batch["positions"][row, slot]] = batch["labels"][row, slot]
    return dense


def test_rows_are_what_the_original_loader_returned(shared: Path, tmp_path: Path) -> None:
    name = "train_shard_0"
    expected = np.load(shared / "fixtures" / f"{name}_maxpred20.npz")
    shutil.copy(shared / "fixtures" / f"{name}.hdf5", tmp_path)
    write_vocab(tmp_path)
    rows = opened(tmp_path).split("train")
    got = rows.take(np.arange(len(rows)))
    for field in ("input_ids", "attention_mask", "token_type_ids"):
        np.testing.assert_array_equal(got[field], expected[field])
    np.testing.assert_array_equal(dense_labels(got), expected["labels"])
    # The published loss counts labels above 0: each has a weight, and nothing else.
    assert got["weights"].sum() == (expected["labels"] > 0).sum()
    np.testing.assert_array_equal(got["weights"] > 0, got["labels"] > 0)

    batch = next(train_batches(opened(tmp_path), 16, seed=3))
    order = [int(np.flatnonzero((got["input_ids"] == row).all(1))[0]) for row in batch["input_ids"]]
    assert sorted(order) == list(range(16)) != order
    for field, values in batch.items():
        np.testing.assert_array_equal(values, got[field][order])

    # Converted, the rows have the words that stood there; a position after the first 0 is not in the list.
    convert_hdf5(tmp_path, load_tokenizer(tmp_path), tmp_path / "shards", heldout=0)
    shards = open_shards(tmp_path / "shards").split("train")
    text = np.where(expected["labels"] >= 0, expected["labels"], expected["input_ids"])
    np.testing.assert_array_equal(shards.take(np.arange(16)), np.where(expected["attention_mask"], text, PAD))


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
def test_the_split_is_a_word_of_the_name(name: str, split: str | None) -> None:
    assert split_of(Path(name)) == split


def test_a_name_that_says_both_is_refused() -> None:
    with pytest.raises(RequestError, match=r"test_from_train\.hdf5 says both train and test"):
        split_of(Path("test_from_train.hdf5"))


def test_files_are_found_and_those_that_say_neither_are_named(corpus: Path) -> None:
    shutil.copy(corpus / "train_0.hdf5", corpus / "latest_3.hdf5")
    shutil.copy(corpus / "train_0.hdf5", corpus / ".train_hidden.hdf5")
    said: list[str] = []
    found = open_hdf5(corpus, load_tokenizer(corpus), said.append)
    assert [file.path.name for file in found.files] == ["test_0.hdf5", "train_0.hdf5", "train_1.hdf5"]
    assert said == [f"{corpus / 'latest_3.hdf5'} is not read: its name says neither train nor test."]
    assert is_hdf5_folder(corpus)
    assert not is_hdf5_folder(corpus.parent)
    assert not is_hdf5_folder(corpus / "train_0.hdf5")
    (corpus / "manifest.json").touch()
    assert not is_hdf5_folder(corpus), "token shards were made in it"


# --- order ----------------------------------------------------------------------------------------------------------


def numbers(batches: list[Arrays], rows: Arrays) -> list[int]:
    """Which of all `rows` a batch's are."""
    known = {row.tobytes(): number for number, row in enumerate(rows["input_ids"])}
    return [known[row.tobytes()] for batch in batches for row in batch["input_ids"]]


@pytest.mark.usefixtures("small_blocks")
def test_an_epoch_has_every_row_in_an_order_of_its_own_for_any_number_of_processes(corpus: Path) -> None:
    rows = opened(corpus).split("train").take(np.arange(31))
    batches = train_batches(opened(corpus), 8, seed=0)
    drawn = [next(batches) for _ in range(12)]
    stream = numbers(drawn, rows)
    epochs = [stream[31 * epoch : 31 * (epoch + 1)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(31)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    other = train_batches(opened(corpus), 8, seed=1)
    assert numbers([next(other) for _ in range(3)], rows) != stream[:24]

    parts = [train_batches(opened(corpus), 8, 0, process_index=p, process_count=2) for p in range(2)]
    again = train_batches(opened(corpus), 8, 0)
    for _ in range(5):
        next(again)
    state = json.loads(json.dumps(again.get_state()))
    later = train_batches(opened(corpus), 8, 0, start_state=state)
    for number, batch in enumerate(drawn):
        for p, part in enumerate(parts):
            for field, values in next(part).items():
                np.testing.assert_array_equal(values, batch[field][p::2])
        if number >= 5:
            for field, values in next(later).items():
                np.testing.assert_array_equal(values, batch[field])


@pytest.mark.usefixtures("small_blocks")
def test_a_block_is_read_about_once_an_epoch(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: Counter[tuple[str, int]] = Counter()

    def counting(file: Any, start: int, stop: int, vocab_size: int) -> Any:
        reads[file.path.name, start] += 1
        return read_rows(file, start, stop, vocab_size)

    corpus_ = opened(corpus)
    monkeypatch.setattr(hdf5, "read_rows", counting)
    rows = corpus_.split("train")
    order = rows.order(seed=0)
    for start in range(0, 31 * 4, 4):
        rows.take(np.array([order[place] for place in range(start, start + 4)]))
    assert len(reads) == 7 + 4
    # Where two epochs meet, a block may still be there.
    assert all(3 <= count <= 4 for count in reads.values())


def test_the_order_mixes_blocks_and_takes_windows_one_after_the_other() -> None:
    starts = np.array([0, 10, 20, 30, 37, 47])
    order = BlockOrder(starts, 2, seed=5)
    first, second = ([order[place] for place in range(47 * epoch, 47 * (epoch + 1))] for epoch in range(2))
    assert sorted(first) == sorted(second) == list(range(47))
    blocks = np.searchsorted(starts, first, side="right") - 1
    assert len(set(blocks[:17])) == 2, "the first window is two blocks"
    assert (np.diff(blocks[:17]) != 0).sum() > 3, "shuffled into each other"
    # Any place can be asked for, in any order.
    assert [order[place] for place in reversed(range(94))] == [*reversed(second), *reversed(first)]


def test_files_with_fewer_slots_are_filled_up_and_held_out_rows_come_in_order(corpus: Path) -> None:
    arrays = masked(originals(5, seed=7))
    few = {name: values[:, :2] if name.startswith("masked") else values for name, values in arrays.items()}
    write(corpus / "test_1.h5", few)
    batches = list(heldout_batches(opened(corpus), 8))
    assert [int(valid.sum()) for _, valid in batches] == [8, 6]
    assert all(batch["positions"].shape == (8, P) for batch, _ in batches)
    last = batches[1][0]
    np.testing.assert_array_equal(last["input_ids"][1:6], arrays["input_ids"])
    np.testing.assert_array_equal(last["positions"][1:6, :2], few["masked_lm_positions"])
    assert not last["weights"][1:6, 2:].any()


# --- training and measuring -----------------------------------------------------------------------------------------


def pretrain(data: Path, run: Path, *more: object, **changes: object) -> list[object]:
    tiny = [] if "--resume" in more else settings(model__vocab_size=V, **changes)
    return ["pretrain", "--recipe", "demo", "--data", data, "--run", run, *tiny, *more]


def course(run: Path) -> list[dict[str, Any]]:
    times = ("tokens_per_second", "data_wait_fraction")
    return [{k: v for k, v in entry.items() if k not in times} for entry in read_metrics(run / "metrics.jsonl")]


def test_a_dry_run_shows_a_row_with_the_mask_of_its_file(corpus: Path, tmp_path: Path) -> None:
    shown = bigs(*pretrain(corpus, tmp_path / "run", "--dry-run")).fine().out
    assert f"at {P} places in a row" in shown
    assert "of 31: " in shown
    assert "→" in shown
    assert not (tmp_path / "run").exists()


def test_pretraining_resuming_and_measuring(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = bigs(*pretrain(corpus, run, checkpoint__every_steps=4)).fine()
    assert done.out == f"{run}\n"
    assert "31 rows with the masks of their files" in done.err
    steady, results = course(run), json.loads((run / "results.json").read_text())
    assert (run / "vocab.txt").read_text() == (corpus / "vocab.txt").read_text()
    words = int((masked(originals(9, 2), 2)["masked_lm_ids"] > 0).sum())
    assert results["metrics"]["heldout_predictions"] == words

    # The files do not have to lie where they were, nor their vocabulary beside them.
    moved = corpus.rename(tmp_path / "moved")
    (moved / "vocab.txt").unlink()
    (run / "results.json").unlink()
    shutil.rmtree(run / "checkpoints" / "6")
    again = bigs(*pretrain(moved, run, "--resume")).fine()
    assert "after step 4" in again.err
    assert course(run) == steady
    assert json.loads((run / "results.json").read_text())["metrics"] == results["metrics"]

    measured = json.loads(bigs("eval", "mlm", "--model", run, "--data", moved, "--json").fine().out)["metrics"]
    assert measured["loss"] == pytest.approx(results["metrics"]["heldout_loss"], rel=1e-5)
    assert measured["predictions"] == words
    held_out, train = originals(9, 2), np.concatenate([originals(20, 0), originals(11, 1)])
    counts = np.bincount(train[train > MASK], minlength=V) + 1
    expected = -np.log(counts / counts.sum())[held_out[held_out > MASK]].mean()
    # What the special tokens' one count takes from the others is little.
    assert measured["unigram_loss"] == pytest.approx(expected, abs=0.01)

    arrays = masked(originals(11, 1), 5)
    write(moved / "train_1.hdf5", arrays)
    before = snapshot(run)
    refused = bigs(*pretrain(moved, run, "--resume"))
    assert refused.code == 2
    assert "is not what" in refused.err
    assert snapshot(run) == before


def test_token_types_reach_the_model(corpus: Path, tmp_path: Path) -> None:
    losses = []
    for name in ("as they are", "all 0"):
        bigs(*pretrain(corpus, tmp_path / name, steps=2, log_every=1)).fine()
        losses.append(course(tmp_path / name)[0]["loss"])
        for path in corpus.glob("*.hdf5"):
            with h5py.File(path, "r+") as file:
                file["segment_ids"][...] = 0  # pyright: ignore
    assert losses[0] != losses[1]


def test_the_digest_is_of_the_content(corpus: Path, tmp_path: Path) -> None:
    digest = opened(corpus).digest
    copy = shutil.copytree(corpus, tmp_path / "copy")
    assert opened(copy).digest == digest
    with h5py.File(copy / "train_1.hdf5", "r+") as file:
        file["masked_lm_ids"][0, 0] = 777  # pyright: ignore
    assert opened(copy).digest != digest
    (corpus / "train_1.hdf5").rename(corpus / "test_1.hdf5")
    assert opened(corpus).digest != digest


def test_a_corpus_without_test_or_train_files_says_what_to_do(corpus: Path, tmp_path: Path) -> None:
    (corpus / "test_0.hdf5").rename(corpus / "held.hdf5")
    refused = bigs(*pretrain(corpus, tmp_path / "run"))
    assert (refused.code, refused.out) == (2, "")
    assert "has no test files" in refused.err
    assert "test_0.hdf5" in refused.err
    assert "held.hdf5 is not read" in refused.err
    assert f"bigs tokenize --input {corpus}" in " ".join(refused.err.split())
    assert not (tmp_path / "run").exists()
    for number in range(2):
        (corpus / f"train_{number}.hdf5").rename(corpus / f"test_{number}.hdf5")
    refused = bigs(*pretrain(corpus, tmp_path / "run"))
    assert refused.code == 2
    assert "has only test files" in refused.err
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_the_recipe_is_refused(corpus: Path, tmp_path: Path) -> None:
    refused = bigs(*pretrain(corpus, tmp_path / "run", data__sequence_length=16))
    assert refused.code == 2
    assert f"data.sequence_length={LENGTH}" in refused.err
    refused = bigs(*pretrain(corpus, tmp_path / "run"), "--set", "model.vocab_size=999")
    assert refused.code == 2
    assert "model.vocab_size=1000" in refused.err
    assert not (tmp_path / "run").exists()


def test_without_a_tokenizer_the_published_one_is_asked_for(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    (corpus / "vocab.txt").unlink()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        with pytest.raises(BigsError) as error:
            hdf5_tokenizer(corpus, "google-bert/bert-large-uncased")
    said = str(error.value)
    assert f"The HDF5 files in {corpus} hold no tokenizer" in said
    assert "google-bert/bert-large-uncased" in said
    assert f"put the vocab.txt that they were made with into {corpus}" in said


# --- conversion -----------------------------------------------------------------------------------------------------


def test_conversion_puts_the_words_back(corpus: Path, tmp_path: Path) -> None:
    tokens: list[int] = []
    tokenizer = load_tokenizer(corpus)
    manifest = convert_hdf5(corpus, tokenizer, tmp_path / "out", heldout=0.5, advance=tokens.append)
    shards = open_shards(tmp_path / "out")
    verify(shards)
    text = {"train": np.concatenate([originals(20, 0), originals(11, 1)]), "heldout": originals(9, 2)}
    for split in ("train", "heldout"):
        rows = shards.split(split)
        np.testing.assert_array_equal(rows.take(np.arange(len(rows))), text[split])
    every = np.concatenate([*text.values()])
    report = manifest.report
    assert manifest == shards.manifest
    assert (manifest.packing, manifest.sources) == (None, (str(corpus),))
    assert report.tokens == sum(tokens) == (every > MASK).sum()
    assert report.sequences == 40
    assert report.fill_rate == pytest.approx((every != PAD).mean())
    with pytest.raises(RequestError, match="holds token shards already"):
        convert_hdf5(corpus, tokenizer, tmp_path / "out", heldout=0.5)


def test_without_test_files_rows_are_held_out_all_copies_together(corpus: Path, tmp_path: Path) -> None:
    (corpus / "test_0.hdf5").unlink()
    write(corpus / "train_2.hdf5", masked(originals(20, 0), seed=9))  # the same text as train_0, masked differently
    tokenizer = load_tokenizer(corpus)
    convert_hdf5(corpus, tokenizer, tmp_path / "out", heldout=0.3)
    shards = open_shards(tmp_path / "out")
    train, held = (shards.split(split) for split in ("train", "heldout"))
    assert len(train) + len(held) == 51
    assert 5 <= len(held) <= 25
    texts = [{row.tobytes() for row in rows.take(np.arange(len(rows)))} for rows in (train, held)]
    assert not texts[0] & texts[1]
    convert_hdf5(corpus, tokenizer, tmp_path / "out", heldout=0, overwrite=True)
    assert open_shards(tmp_path / "out").manifest.rows("heldout") == 0
    with pytest.raises(RequestError, match=r"--heldout 1e-09 leaves none to hold out"):
        convert_hdf5(corpus, tokenizer, tmp_path / "new", heldout=1e-9)
    assert not (tmp_path / "new").exists()


# --- what can be wrong ----------------------------------------------------------------------------------------------


def broken(folder: Path, **changes: Any) -> Path:
    """Rewrite train_1 with some data sets changed, or left out (None)."""
    arrays = masked(originals(11, 1), 1) | changes
    return write(folder / "train_1.hdf5", {name: values for name, values in arrays.items() if values is not None})


def good(name: str) -> np.ndarray[Any, Any]:
    return masked(originals(11, 1), 1)[name].copy()


def with_one(name: str, row: int, column: int, value: int) -> Arrays:
    values = good(name).astype(np.int64)
    values[row, column] = value
    return {name: values}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"masked_lm_ids": None}, r"no data set masked_lm_ids\. .*this one has input_ids"),
        ({"input_ids": good("input_ids")[:7]}, r"do not go together: input_ids 7 × 32, input_mask 11 × 32"),
        ({"segment_ids": good("segment_ids")[:, :9]}, r"do not go together: .*segment_ids 11 × 9"),
        ({"masked_lm_ids": good("masked_lm_ids")[:, :3]}, "do not go together: .*masked_lm_ids 11 × 3"),
        ({"input_ids": good("input_ids")[0]}, r"input_ids is no table of whole numbers, but int32 \(32,\)"),
        ({"input_ids": good("input_ids") / 2}, "input_ids is no table of whole numbers, but float64"),
        ({name: values[:0] for name, values in masked(originals(1)).items()}, "holds no rows"),
        ({name: np.tile(good(name), 2) for name in ("input_ids", "input_mask", "segment_ids")}, "64 tokens, .* of 32"),
        (
            with_one("input_ids", 3, 5, V),
            r"input_ids\[3, 5\] is 1000; 0 to 999 are the ids of the vocabulary.*vocab\.txt",
        ),
        (with_one("input_ids", 3, 5, 2**32 + 7), r"input_ids\[3, 5\] is 4294967303"),
        (with_one("masked_lm_ids", 2, 0, -4), r"masked_lm_ids\[2, 0\] is -4"),
        (with_one("masked_lm_positions", 9, 0, LENGTH), r"masked_lm_positions\[9, 0\] is 32; 0 to 31 are the places"),
        (with_one("input_mask", 0, 1, 2), r"input_mask\[0, 1\] is 2; 0 to 1 are all it can be"),
    ],
)
def test_bad_files_are_refused_as_they_are_opened(corpus: Path, changes: Arrays, said: str) -> None:
    broken(corpus, **changes)
    with pytest.raises(RequestError, match=rf"train_1\.hdf5.*{said}" if "go together" not in said else said) as error:
        opened(corpus)
    assert str(corpus / "train_1.hdf5") in str(error.value)


def test_files_that_are_no_hdf5_or_cut_short_are_named(corpus: Path) -> None:
    path = corpus / "train_1.hdf5"
    data = path.read_bytes()
    for content, said in (
        (b"", "is no HDF5 file"),
        (b"PAR1 something", "is no HDF5 file"),
        (data[: len(data) // 2], "is damaged or truncated"),
        (data[:8], "is damaged or truncated"),
    ):
        path.write_bytes(content)
        with pytest.raises(RequestError, match=rf"train_1\.hdf5 {said}"):
            opened(corpus)


def test_a_bad_row_anywhere_is_found_before_the_first_step(corpus: Path, tmp_path: Path) -> None:
    """Beyond the rows that are looked at as the file is opened."""
    write(corpus / "train_2.hdf5", masked(originals(40, 4), 4))
    with h5py.File(corpus / "train_2.hdf5", "r+") as file:
        file["masked_lm_positions"][33, 0] = 99  # pyright: ignore
    opened(corpus)
    refused = bigs(*pretrain(corpus, tmp_path / "run"))
    assert (refused.code, refused.out) == (2, "")
    assert "train_2.hdf5: masked_lm_positions[33, 0] is 99" in " ".join(refused.err.split())
    assert not (tmp_path / "run").exists()

    write(corpus / "train_2.hdf5", masked(originals(40, 4), 4))
    at = inspect(corpus / "train_2.hdf5", "train")
    with h5py.File(at.path) as file:
        chunk = file["input_ids"].id.get_chunk_info(0)  # pyright: ignore
    data = bytearray(at.path.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    at.path.write_bytes(data)
    with pytest.raises(RequestError, match=r"train_2\.hdf5 is damaged or truncated"):
        opened(corpus).verify()


def test_values_after_the_end_of_the_list_do_not_matter(corpus: Path) -> None:
    arrays = masked(originals(11, 1), 1)
    arrays["masked_lm_positions"][0] = [3, 0, 99, -1, 0, 5]
    broken(corpus, **arrays)
    rows = opened(corpus).split("train").take(np.array([20]))
    assert rows["positions"].tolist() == [[3, 0, 0, 0, 0, 0]]
    assert rows["weights"].tolist() == [[1, 0, 0, 0, 0, 0]]


def test_a_folder_of_other_names_only_is_refused(corpus: Path) -> None:
    for number, path in enumerate(sorted(corpus.glob("*.hdf5"))):
        path.rename(corpus / f"shard_{number}.h5")
    with pytest.raises(RequestError, match=r"No HDF5 file in .* has train or test in its name.*train_0\.h5"):
        opened(corpus)
    with pytest.raises(RequestError, match="There is no HDF5 file in"):
        open_hdf5(corpus.parent, load_tokenizer(corpus))


def test_without_h5py_the_extra_is_named(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused = bigs(*pretrain(corpus, tmp_path / "run"))
    assert (refused.code, refused.out) == (2, "")
    assert "pip install 'bigs[hdf5]'" in refused.err
