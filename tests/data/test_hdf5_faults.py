"""Errors for invalid HDF5 files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.data.hdf5 import open_hdf5
from bigs_cli.data.hdf5_rows import inspect
from bigs_cli.data.tokenizer import load_tokenizer
from tests.data.hdf5_files import LENGTH, Arrays, V, masked, opened, originals, pretrain, write
from tests.tiny import bigs


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
    ("changes", "message"),
    [
        ({"masked_lm_ids": None}, r"no data set masked_lm_ids\. .*this one has input_ids"),
        ({"input_ids": good("input_ids")[:7]}, r"do not match: input_ids 7 × 32, input_mask 11 × 32"),
        ({"segment_ids": good("segment_ids")[:, :9]}, r"do not match: .*segment_ids 11 × 9"),
        ({"masked_lm_ids": good("masked_lm_ids")[:, :3]}, "do not match: .*masked_lm_ids 11 × 3"),
        ({"input_ids": good("input_ids")[0]}, r"input_ids should be a table of integers, but is int32 \(32,\)"),
        ({"input_ids": good("input_ids") / 2}, "input_ids should be a table of integers, but is float64"),
        ({name: values[:0] for name, values in masked(originals(1)).items()}, "contains no rows"),
        ({name: np.tile(good(name), 2) for name in ("input_ids", "input_mask", "segment_ids")}, "64 tokens, .* of 32"),
        (
            with_one("input_ids", 3, 5, V),
            r"input_ids\[3, 5\] is 1000; 0 to 999 are the ids of the vocabulary.*vocab\.txt",
        ),
        (with_one("input_ids", 3, 5, 2**32 + 7), r"input_ids\[3, 5\] is 4294967303"),
        (with_one("masked_lm_ids", 2, 0, -4), r"masked_lm_ids\[2, 0\] is -4"),
        (
            with_one("masked_lm_positions", 9, 0, LENGTH),
            r"masked_lm_positions\[9, 0\] is 32; 0 to 31 are the positions",
        ),
        (with_one("input_mask", 0, 1, 2), r"input_mask\[0, 1\] is 2; 0 to 1 are the only valid values"),
    ],
)
def test_malformed_files_are_refused_when_opened(corpus: Path, changes: Arrays, message: str) -> None:
    broken(corpus, **changes)
    with pytest.raises(
        RequestError, match=rf"train_1\.hdf5.*{message}" if "do not match" not in message else message
    ) as error:
        opened(corpus)
    assert str(corpus / "train_1.hdf5") in str(error.value)


def test_other_formats_and_truncated_files_are_refused(corpus: Path) -> None:
    path = corpus / "train_1.hdf5"
    data = path.read_bytes()
    for content, message in (
        (b"", "is not an HDF5 file"),
        (b"PAR1 something", "is not an HDF5 file"),
        (data[: len(data) // 2], "is corrupt or truncated"),
        (data[:8], "is corrupt or truncated"),
    ):
        path.write_bytes(content)
        with pytest.raises(RequestError, match=rf"train_1\.hdf5 {message}"):
            opened(corpus)


def test_an_invalid_row_is_found_before_the_first_step(corpus: Path, tmp_path: Path) -> None:
    """The row is beyond those that are checked when the file is opened."""
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
    with pytest.raises(RequestError, match=r"train_2\.hdf5 is corrupt or truncated"):
        opened(corpus).verify(lambda size: None)


def test_values_after_the_end_of_a_list_are_ignored(corpus: Path) -> None:
    arrays = masked(originals(11, 1), 1)
    arrays["masked_lm_positions"][0] = [3, 0, 99, -1, 0, 5]
    broken(corpus, **arrays)
    rows = opened(corpus).split("train").take(np.array([20]))
    assert rows["positions"].tolist() == [[3, 0, 0, 0, 0, 0]]
    assert rows["weights"].tolist() == [[1, 0, 0, 0, 0, 0]]


def test_a_folder_without_train_or_test_files_is_refused(corpus: Path) -> None:
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
