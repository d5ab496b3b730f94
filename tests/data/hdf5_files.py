"""Small HDF5 files in the format of the authors' pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bigs_cli.data import hdf5_rows
from bigs_cli.data.hdf5 import HDF5Corpus, open_hdf5
from bigs_cli.data.tokenizer import RESERVED, load_tokenizer
from tests.tiny import LENGTH, settings

V, P = 1000, 6
PAD, UNK, CLS, SEP, MASK = 0, 100, 101, 102, 103
Arrays = dict[str, np.ndarray[Any, Any]]


def originals(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return rows `[n, L]` of random tokens; the last quarter of every second row is padding."""
    rows = np.random.default_rng(seed).integers(104, V, (count, LENGTH))
    rows[:, 0] = CLS
    ends = np.where(np.arange(count) % 2, LENGTH, 3 * LENGTH // 4)
    rows[np.arange(count), ends - 1] = SEP
    rows[np.arange(LENGTH) >= ends[:, None]] = PAD
    return rows


def masked(rows: np.ndarray[Any, Any], seed: int = 0) -> Arrays:
    """Return the data sets of a file; in every row, one to P words are masked."""
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
    """Two train files with 20 and 11 rows, a test file with 9 rows, and their vocabulary."""
    folder = tmp_path / "corpus"
    for name, count, seed in (("train_0", 20, 0), ("train_1", 11, 1), ("test_0", 9, 2)):
        write(folder / f"{name}.hdf5", masked(originals(count, seed), seed))
    write_vocab(folder)
    return folder


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use blocks of three rows and windows of two blocks."""
    monkeypatch.setattr(hdf5_rows, "_BLOCK_BYTES", 3 * hdf5_rows.row_bytes(LENGTH, P))
    monkeypatch.setattr(hdf5_rows, "_WINDOW", 2)


def pretrain(data: Path, run: Path, *more: object, **changes: object) -> list[object]:
    """Return the arguments of a tiny pretraining on HDF5 files."""
    tiny = [] if "--resume" in more else settings(model__vocab_size=V, **changes)
    return ["pretrain", "--recipe", "demo", "--data", data, "--run", run, *tiny, *more]
