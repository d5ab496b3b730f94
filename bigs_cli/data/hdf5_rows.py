"""HDF5 files of the BiGS authors' corpus: the split, shapes and rows of a file, and the rows of many files.

The data sets are those of the 24-hour-BERT pipeline: `input_ids`, `input_mask` and `segment_ids` `[n, L]`, and
`masked_lm_positions` and `masked_lm_ids` `[n, P]`, where the list of a row ends before its first position that is 0.
Other data sets are not read.
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

from bigs_cli.core.error_messages import read_error
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
    "the ids of the vocabulary. Put the vocab.txt with which the corpus was made into its folder; if the file is "
    "corrupt, download it again"
)
_MEANING = {
    "input_ids": _VOCABULARY,
    "masked_lm_ids": _VOCABULARY,
    "masked_lm_positions": "the positions of a row. Download or generate the file again",
}
_BLOCK_BYTES = 1 << 22
_SEQUENTIAL_BYTES = 1 << 25
"""Size in bytes of the blocks for reading in order; with larger blocks, fewer chunks are decompressed twice."""
_WINDOW = 16
"""Number of blocks shuffled together. Twice as many are kept in memory, because a batch may span two windows."""


@dataclass(frozen=True)
class HDF5File:
    """A file of n rows, each with L tokens and P slots for predictions."""

    path: Path
    split: Split
    rows: int
    length: int
    slots: int


def split_of(path: Path) -> Split | None:
    """Return the split of a file, by a word in its name that starts with `train` or `test`.

    `contest_train.hdf5` and `training-0.h5` are training files, `latest_3.hdf5` is neither.

    Raises:
        RequestError: the name has both.
    """
    words = re.findall(r"[^\W\d_]+", path.stem.lower())
    train, test = (any(word.startswith(prefix) for word in words) for prefix in ("train", "test"))
    if train and test:
        raise RequestError(
            f"The name of {path} contains both train and test. Rename the file, so that its name contains only one of "
            "them."
        )
    return "train" if train else "heldout" if test else None


def inspect(path: Path, split: Split) -> HDF5File:
    """Return the shapes of the data sets in a file; no row is read.

    Raises:
        RequestError: h5py is missing, or the file is not a valid corpus file.
    """
    with _opened(path) as opened:
        shapes = {name: _table(opened, name, path).shape for name in (*_TOKENS, *_SLOTS)}
    counts = {shape[0] for shape in shapes.values()}
    if len(counts) > 1 or any(len({shapes[name] for name in group}) > 1 for group in (_TOKENS, _SLOTS)):
        said = ", ".join(f"{name} {rows} × {columns}" for name, (rows, columns) in shapes.items())
        raise RequestError(
            f"The shapes of the data sets of {path} do not match: {said}. Download or generate the file again."
        )
    rows, length = shapes["input_ids"]
    if not rows or not length:
        raise RequestError(f"{path} contains no rows. Remove it, or download or generate it again.")
    return HDF5File(path, split, rows, length, shapes["masked_lm_ids"][1])


def read_rows(file: HDF5File, start: int, stop: int, vocab_size: int) -> Batch:
    """Return the rows `start` … `stop` − 1 of a file with their static masks, as model inputs.

    `input_ids` int32, `attention_mask` bool and `token_type_ids` int8, `[n, L]`; `positions` and `labels` int32 and
    `weights` float32, `[n, P]`. A slot after the end of a row's list has position, label and weight 0. The weight is
    also 0 where the label is 0, because the published loss counts only labels above 0.

    Raises:
        RequestError: the file is corrupt, or contains an id outside the vocabulary or an invalid position or mask.
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
                f"{file.path}: {name}[{start + row}, {column}] is {values[row, column]}; 0 to {limit - 1} are "
                f"{_MEANING.get(name, 'the only valid values. Download or generate the file again')}."
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
    """Return the size in bytes of a row as `read_rows` returns it."""
    return (4 + 1 + 1) * length + (4 + 4 + 4) * slots


class HDF5Rows:
    """The rows of several files, in order.

    The files are compressed in chunks of thousands of rows and a few columns, so reading one row costs as much as
    reading thousands. Rows are therefore read in blocks, the most recently used blocks are kept in memory, and the
    training order needs few blocks at a time.
    """

    def __init__(self, files: tuple[HDF5File, ...], slots: int, vocab_size: int) -> None:
        """Open the files; rows are padded to `slots`, the maximum number of slots of any file of the corpus."""
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
            RequestError: a file is corrupt.
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
        """Return the training order, which needs few blocks at a time."""
        return BlockOrder(self._starts, _WINDOW, seed).take

    def blocks(self) -> Iterator[Batch]:
        """Yield all rows in order, in blocks of bounded size, which are not kept in memory.

        Raises:
            RequestError: a file is corrupt.
        """
        for piece in self._cut(_SEQUENTIAL_BYTES):
            yield self._read(*piece)

    def _cut(self, size: int) -> list[tuple[HDF5File, int, int]]:
        """Return pieces of about `size` bytes as (file, first row, row after the last)."""
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
    """Open a file for reading; convert errors of opening and reading it into a RequestError."""
    try:
        import h5py
    except ImportError:
        raise RequestError(f"Reading {path} requires h5py, which is not installed: pip install 'bigs[hdf5]'") from None
    try:
        with path.open("rb") as file:
            if file.read(len(_SIGNATURE)) != _SIGNATURE:
                raise RequestError(f"{path} is not an HDF5 file. Remove it, or download it again.")
        # Without locking, so that the file may be in a read-only folder.
        with h5py.File(path, "r", locking=False) as opened:
            yield opened
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:  # h5py raises any of these
        if isinstance(error, PermissionError | FileNotFoundError):
            raise read_error(path, error) from None
        raise RequestError(f"{path} is corrupt or truncated ({error}). Download or generate it again.") from None


def _table(opened: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """Return a data set `[n, columns]` of integers; links to other files are rejected."""
    import h5py

    found = opened.get(name)
    if not isinstance(found, h5py.Dataset):
        raise RequestError(
            f"{path} has no data set {name}. A corpus file has {', '.join((*_TOKENS, *_SLOTS))}; "
            f"this one has {', '.join(map(str, opened)) or 'nothing'}."
        )
    if found.ndim != 2 or found.dtype.kind not in "iub":
        raise RequestError(f"{path}: {name} should be a table of integers, but is {found.dtype} {found.shape}.")
    if found.file.id != opened.id or found.external or found.is_virtual:
        raise RequestError(
            f"{path}: {name} is a link to another file. Links are not followed. Generate the file again."
        )
    return found
