"""The BiGS authors' corpus: a folder of HDF5 files, masked once and for all, to train on as on token shards.

Files have `train` or `test` in the name; `data/hdf5_file.py` says what is in them. They are compressed in chunks of
thousands of rows and a few columns, so that a single row costs as much as thousands. Hence they are read in blocks of
rows, and the order to train in (`HDF5Rows.order`) goes through few blocks at a time.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.files import sha256
from bigs_cli.data.block_order import BlockOrder
from bigs_cli.data.hdf5_file import Array, Block, HDF5File, inspect, read_rows, split_of
from bigs_cli.data.manifest import MANIFEST, Split
from bigs_cli.data.shards import Shards, open_shards
from bigs_cli.data.tokenizer import TOKENIZER_JSON, VOCAB_TXT, fingerprint, load_tokenizer, special_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HDF5_SUFFIXES = (".hdf5", ".h5")
_BLOCK_BYTES = 1 << 22
_SEQUENTIAL_BYTES = 1 << 25
"""Read at once where rows are wanted in order; the more, the less often a chunk is unpacked twice."""
_WINDOW = 16
"""Blocks that are shuffled into each other. Twice as many are kept in memory, as a batch may lie in two windows."""


@dataclass(frozen=True)
class HDF5Manifest:
    """What a manifest says of token shards, as far as HDF5 files have it."""

    sequence_length: int
    vocab_size: int
    special_ids: dict[str, int]
    tokenizer: str
    """Fingerprint of the tokenizer, which the files themselves do not name."""


class HDF5Rows:
    """The rows of one split, in the order of the files; the blocks used lately are kept."""

    def __init__(self, files: tuple[HDF5File, ...], slots: int, vocab_size: int) -> None:
        self._files = files
        self._slots = slots
        self._vocab_size = vocab_size
        self._blocks = self._cut(_BLOCK_BYTES)
        self._starts = np.cumsum([0, *(stop - start for _, start, stop in self._blocks)])
        self._block = functools.lru_cache(2 * _WINDOW)(lambda number: self._read(*self._blocks[number]))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, indices: Array) -> Block:
        """Return the rows at `indices` (`[B]`, in any order) as `read_rows` does, P being the most that a file has.

        Raises:
            RequestError: a file is damaged.
        """
        number = np.searchsorted(self._starts, indices, side="right") - 1
        taken: Block = {}
        for block in np.unique(number):
            here = number == block
            for name, rows in self._block(int(block)).items():
                if name not in taken:
                    taken[name] = np.empty((len(indices), *rows.shape[1:]), rows.dtype)
                taken[name][here] = rows[indices[here] - self._starts[block]]
        return taken

    def order(self, seed: int) -> BlockOrder:
        """Return the rows' numbers in the order to train in, which goes on for ever: every epoch another."""
        return BlockOrder(self._starts, _WINDOW, seed)

    def blocks(self) -> Iterator[Block]:
        """Yield all rows in their order, in blocks of bounded size; none is kept.

        Raises:
            RequestError: a file is damaged.
        """
        for piece in self._cut(_SEQUENTIAL_BYTES):
            yield self._read(*piece)

    def _cut(self, size: int) -> list[tuple[HDF5File, int, int]]:
        """Return all rows in pieces of about `size` bytes: the file, the first row and the row after the last."""
        rows = max(1, size // _row_bytes(self._files[0].length, self._slots))
        return [
            (file, start, min(start + rows, file.rows)) for file in self._files for start in range(0, file.rows, rows)
        ]

    def _read(self, file: HDF5File, start: int, stop: int) -> Block:
        block = read_rows(file, start, stop, self._vocab_size)
        for name in ("positions", "labels", "weights"):
            block[name] = np.pad(block[name], ((0, 0), (0, self._slots - file.slots)))
        return block

    def __repr__(self) -> str:
        return f"HDF5Rows({len(self)})"


class HDF5Corpus:
    """An opened folder of HDF5 files, with what `Shards` has; see `open_hdf5`."""

    def __init__(self, folder: Path, files: tuple[HDF5File, ...], tokenizer: Tokenizer) -> None:
        self.folder = folder
        self.files = files
        self.manifest = HDF5Manifest(
            files[0].length, tokenizer.get_vocab_size(), special_ids(tokenizer), fingerprint(tokenizer)
        )
        self._tokenizer = tokenizer
        self._sha256 = functools.cache(sha256)

    def has_split(self, name: Split) -> bool:
        """Return whether there are train files or, for "heldout", test files."""
        return any(file.split == name for file in self.files)

    def split(self, name: Split) -> HDF5Rows:
        """Return the rows of the train files or, as "heldout", of the test files.

        Raises:
            RequestError: there are none.
        """
        files = tuple(file for file in self.files if file.split == name)
        if files:
            return self._rows(files)
        suffix = self.files[0].path.suffix
        if name == "train":
            raise RequestError(f"{self.folder} has only test files. Rename those to train on, as train_0{suffix}.")
        raise RequestError(
            f"{self.folder} has no test files, so that there is nothing to measure the model on. Rename one of its "
            f"files, as test_0{suffix}, to leave it out of training; or convert the corpus, which holds rows out: "
            f"bigs tokenize --input {self.folder} --output DIR"
        )

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer that the corpus was opened with."""
        return self._tokenizer

    @property
    def digest(self) -> str:
        """The SHA-256 of what the rows are: of the bytes of all files in their order, wherever they lie.

        Takes reading every file, once for all times it is asked for, without unpacking it: seconds a gigabyte.
        """
        parts = (f"{file.split} {self._sha256(file.path)}" for file in self.files)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def nbytes(self) -> int:
        """The size of all rows together, unpacked, in bytes."""
        slots = max(file.slots for file in self.files)
        return sum(file.rows for file in self.files) * _row_bytes(self.manifest.sequence_length, slots)

    def verify(self, advance: Callable[[int], None] = lambda size: None) -> None:
        """Unpack and check every row; `advance` is told the bytes. `digest` then needs no reading any more.

        Raises:
            RequestError: a file is damaged, or holds ids, positions or masks that cannot be; the first is named.
        """
        for file in self.files:
            self._sha256(file.path)
            for block in self._rows((file,)).blocks():
                advance(sum(rows.nbytes for rows in block.values()))

    def _rows(self, files: tuple[HDF5File, ...]) -> HDF5Rows:
        return HDF5Rows(files, max(file.slots for file in self.files), self.manifest.vocab_size)


Corpus = Shards | HDF5Corpus
"""What a masked language model is trained on and measured with."""


def open_corpus(folder: Path, tokenizer: str | Path | Tokenizer, say: Callable[[str], None]) -> Corpus:
    """Return the token shards or the HDF5 files in `folder`; see `hdf5_tokenizer` and `open_hdf5` for the rest.

    Raises:
        RequestError: there are none, they cannot be used, or there is no such tokenizer.
        BigsError: the hub has to be asked for the tokenizer, and cannot be reached.
    """
    if is_hdf5_folder(folder):
        return open_hdf5(folder, hdf5_tokenizer(folder, tokenizer), say)
    return open_shards(folder)


def open_hdf5(folder: Path, tokenizer: Tokenizer, say: Callable[[str], None] = lambda sentence: None) -> HDF5Corpus:
    """Return the HDF5 files in `folder`, in the order of their names; `say` is told of those that are passed over.

    The shapes of all are checked, and the first rows of each; `HDF5Corpus.verify` checks all rows.

    Raises:
        RequestError: h5py is missing, or the files cannot be used; the first that cannot is named.
    """
    paths = _hdf5_paths(folder)
    files: list[HDF5File] = []
    for path in paths:
        if not path.exists():
            say(f"{path} is not read: it is a link that leads nowhere.")
        elif split := split_of(path):
            files.append(inspect(path, split))
        else:
            say(f"{path} is not read: its name says neither train nor test.")
    if not files:
        raise RequestError(
            f"No HDF5 file in {folder} has train or test in its name. Name them so, as train_0{paths[0].suffix} and "
            f"test_0{paths[0].suffix}."
            if paths
            else f"There is no HDF5 file in {folder}."
        )
    for file in files:
        if file.length != files[0].length:
            raise RequestError(
                f"{file.path} has rows of {file.length} tokens, {files[0].path} of {files[0].length}. "
                "Put files of different lengths into different folders."
            )
        read_rows(file, 0, min(file.rows, 16), tokenizer.get_vocab_size())
    return HDF5Corpus(folder, tuple(files), tokenizer)


def is_hdf5_folder(folder: Path) -> bool:
    """Say whether `folder` holds HDF5 files, and no token shards."""
    return folder.is_dir() and not (folder / MANIFEST).exists() and any(map(Path.is_file, _hdf5_paths(folder)))


def hdf5_tokenizer(folder: Path, otherwise: str | Path | Tokenizer) -> Tokenizer:
    """Return the tokenizer that lies in a folder of HDF5 files, or `otherwise`: itself, or its file, folder or hub id.

    Raises:
        RequestError: it cannot be used, or there is none of that name.
        BigsError: the hub cannot be reached.
    """
    if any((folder / name).is_file() for name in (TOKENIZER_JSON, VOCAB_TXT)):
        return load_tokenizer(folder)
    if not isinstance(otherwise, str | Path):
        return otherwise
    try:
        return load_tokenizer(otherwise)
    except BigsError as error:
        raise type(error)(
            f"The HDF5 files in {folder} hold no tokenizer, and no {VOCAB_TXT} or {TOKENIZER_JSON} lies beside them. "
            f"{error} Or put the {VOCAB_TXT} that they were made with into {folder}."
        ) from None


def _row_bytes(length: int, slots: int) -> int:
    """Return the bytes of a row as `read_rows` gives it: what a token takes and what a slot takes."""
    return (4 + 1 + 1) * length + (4 + 4 + 4) * slots


def _hdf5_paths(folder: Path) -> list[Path]:
    """Return what a folder holds under the name of an HDF5 file: files, and links, wherever they lead."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in HDF5_SUFFIXES
        and not path.name.startswith(".")
        and (path.is_file() or path.is_symlink())
    )
