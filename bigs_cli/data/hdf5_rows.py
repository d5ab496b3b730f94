"""HDF5 files of the BiGS authors' corpus: one file's name, shapes and rows, and the rows of many files.

The data sets are those of the 24-hour-BERT pipeline: `input_ids`, `input_mask` and `segment_ids` `[n, L]`, and
`masked_lm_positions` and `masked_lm_ids` `[n, P]`, where the first position 0 ends a row's list. Others are not read.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.corpus import Array, Batch
from bigs_cli.data.manifest import Split
from bigs_cli.data.order import BlockOrder

if TYPE_CHECKING:
    import h5py

_TOKENS = ("input_ids", "input_mask", "segment_ids")
_SLOTS = ("masked_lm_positions", "masked_lm_ids")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_VOCABULARY = (
    "the ids of the vocabulary. Put the vocab.txt that the corpus was made with into its folder, or fetch the file "
    "again if it is damaged"
)
_MEANING = {
    "input_ids": _VOCABULARY,
    "masked_lm_ids": _VOCABULARY,
    "masked_lm_positions": "the places of a row. Fetch or make the file again",
}
_BLOCK_BYTES = 1 << 22
_SEQUENTIAL_BYTES = 1 << 25
"""Read at once where rows are wanted in order; the more, the less often a chunk is decompressed twice."""
_WINDOW = 16
"""Blocks that are shuffled into each other. Twice as many stay in memory, as a batch may lie in two windows."""


@dataclass(frozen=True)
class HDF5File:
    """A file of n rows with L tokens and P slots for predictions."""

    path: Path
    split: Split
    rows: int
    length: int
    slots: int


def split_of(path: Path) -> Split | None:
    """Return the split in a file's name, by a word that begins with `train` or `test`.

    `contest_train.hdf5` and `training-0.h5` are training files, `latest_3.hdf5` is neither.

    Raises:
        RequestError: the name has both.
    """
    words = re.findall(r"[^\W\d_]+", path.stem.lower())
    train, test = (any(word.startswith(prefix) for word in words) for prefix in ("train", "test"))
    if train and test:
        raise RequestError(f"The name of {path} says both train and test. Rename it, so that it says only one of them.")
    return "train" if train else "heldout" if test else None


def inspect(path: Path, split: Split) -> HDF5File:
    """Return the shapes in a file; no row is read.

    Raises:
        RequestError: h5py is missing, or the file is not such a file.
    """
    with _opened(path) as opened:
        shapes = {name: _table(opened, name, path).shape for name in (*_TOKENS, *_SLOTS)}
    counts = {shape[0] for shape in shapes.values()}
    if len(counts) > 1 or any(len({shapes[name] for name in group}) > 1 for group in (_TOKENS, _SLOTS)):
        said = ", ".join(f"{name} {rows} × {columns}" for name, (rows, columns) in shapes.items())
        raise RequestError(f"The data sets of {path} do not go together: {said}. Fetch or make it again.")
    rows, length = shapes["input_ids"]
    if not rows or not length:
        raise RequestError(f"{path} holds no rows. Remove it, or fetch or make it again.")
    return HDF5File(path, split, rows, length, shapes["masked_lm_ids"][1])


def read_rows(file: HDF5File, start: int, stop: int, vocab_size: int) -> Batch:
    """Return the rows `start` … `stop` − 1 of a file with their static masks, as the model takes them.

    `input_ids` int32, `attention_mask` bool and `token_type_ids` int8, `[n, L]`; `positions` and `labels` int32 and
    `weights` float32, `[n, P]`. A slot after the end of a row's list has position, label and weight 0. The weight is
    also 0 where the label is: the published loss counts labels above 0 only.

    Raises:
        RequestError: the file is damaged, or holds an id beyond the vocabulary or an impossible position or mask.
    """
    with _opened(file.path) as opened:
        raw: Batch = {name: _table(opened, name, file.path)[start:stop] for name in (*_TOKENS, *_SLOTS)}
    listed = np.logical_and.accumulate(raw["masked_lm_positions"] != 0, axis=1)
    positions, labels = (np.where(listed, raw[name], 0) for name in _SLOTS)
    raw |= {"masked_lm_positions": positions, "masked_lm_ids": labels}

    limits = {"input_ids": vocab_size, "masked_lm_ids": vocab_size, "masked_lm_positions": file.length}
    for name, values in raw.items():
        limit = limits.get(name, 2)
        wrong = (values < 0) | (values >= limit)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise RequestError(
                f"{file.path}: {name}[{start + row}, {column}] is {values[row, column]}; "
                f"0 to {limit - 1} are {_MEANING.get(name, 'the only valid values. Fetch or make the file again')}."
            )
    return {
        "input_ids": raw["input_ids"].astype(np.int32),
        "attention_mask": raw["input_mask"].astype(np.bool_),
        "token_type_ids": raw["segment_ids"].astype(np.int8),
        "positions": positions.astype(np.int32),
        "labels": labels.astype(np.int32),
        "weights": (labels > 0).astype(np.float32),
    }


def row_bytes(length: int, slots: int) -> int:
    """Return the bytes of a row as `read_rows` returns it: those of its tokens and of its slots."""
    return (4 + 1 + 1) * length + (4 + 4 + 4) * slots


class HDF5Rows:
    """The rows of files in their order.

    The files are compressed in chunks of thousands of rows and a few columns, so reading one row costs as much as
    reading thousands. Rows are therefore read in blocks, of which those used last stay in memory, and the order to
    train in needs few blocks at a time.
    """

    def __init__(self, files: tuple[HDF5File, ...], slots: int, vocab_size: int) -> None:
        """`slots`: the most that any file of the corpus has; rows with fewer are padded."""
        self._files = files
        self._slots = slots
        self._vocab_size = vocab_size
        self._blocks = self._cut(_BLOCK_BYTES)
        self._starts = np.cumsum([0, *(stop - start for _, start, stop in self._blocks)])
        self._block = functools.lru_cache(2 * _WINDOW)(lambda number: self._read(*self._blocks[number]))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, indices: Array) -> Batch:
        """Return the rows at `indices` (`[B]`, in any order) as `read_rows` does.

        Raises:
            RequestError: a file is damaged.
        """
        number = np.searchsorted(self._starts, indices, side="right") - 1
        taken: Batch = {}
        for block in np.unique(number):
            here = number == block
            for name, rows in self._block(int(block)).items():
                if name not in taken:
                    taken[name] = np.empty((len(indices), *rows.shape[1:]), rows.dtype)
                taken[name][here] = rows[indices[here] - self._starts[block]]
        return taken

    def order(self, seed: int) -> Callable[[Array], Array]:
        """Return the order to train in, which needs few blocks at a time."""
        return BlockOrder(self._starts, _WINDOW, seed).take

    def blocks(self) -> Iterator[Batch]:
        """Yield all rows in their order, in blocks of bounded size, which are not kept.

        Raises:
            RequestError: a file is damaged.
        """
        for piece in self._cut(_SEQUENTIAL_BYTES):
            yield self._read(*piece)

    def _cut(self, size: int) -> list[tuple[HDF5File, int, int]]:
        """Return pieces of about `size` bytes: the file, the first row and the row after the last."""
        rows = max(1, size // row_bytes(self._files[0].length, self._slots))
        return [
            (file, start, min(start + rows, file.rows)) for file in self._files for start in range(0, file.rows, rows)
        ]

    def _read(self, file: HDF5File, start: int, stop: int) -> Batch:
        block = read_rows(file, start, stop, self._vocab_size)
        for name in ("positions", "labels", "weights"):
            block[name] = np.pad(block[name], ((0, 0), (0, self._slots - file.slots)))
        return block


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading, and turn errors of opening and reading it into a RequestError."""
    try:
        import h5py
    except ImportError:
        raise RequestError(f"Reading {path} takes h5py, which is not installed: pip install 'bigs[hdf5]'") from None
    try:
        with path.open("rb") as file:
            if file.read(len(_SIGNATURE)) != _SIGNATURE:
                raise RequestError(f"{path} is not an HDF5 file. Remove it, or fetch it again.")
        # Without a lock of the file, so that it may be in a folder that is read-only.
        with h5py.File(path, "r", locking=False) as opened:
            yield opened
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:  # h5py raises any of these
        if isinstance(error, PermissionError | FileNotFoundError):
            raise RequestError(f"{path} cannot be read ({error.strerror}).") from None
        raise RequestError(f"{path} is damaged or truncated ({error}). Fetch or make it again.") from None


def _table(opened: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """Return a data set of the file itself: integers `[n, columns]`."""
    import h5py

    found = opened.get(name)
    if not isinstance(found, h5py.Dataset):
        raise RequestError(
            f"{path} has no data set {name}. A corpus file has {', '.join((*_TOKENS, *_SLOTS))}; "
            f"this one has {', '.join(map(str, opened)) or 'nothing'}."
        )
    if found.ndim != 2 or found.dtype.kind not in "iub":
        raise RequestError(f"{path}: {name} is not a table of integers but {found.dtype} {found.shape}.")
    if found.file.id != opened.id or found.external or found.is_virtual:
        raise RequestError(f"{path}: {name} is a link to another file, which is not read. Make the file again.")
    return found
