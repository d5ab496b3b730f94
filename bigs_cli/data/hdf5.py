"""The BiGS authors' HDF5 files: open a folder as a `Corpus` with static masks, or convert it to token shards.

Files have `train` or `test` in the name; `hdf5_rows.py` reads them. `bigs tokenize` restores the masked tokens and
writes token shards. Training reads and converts rows block by block, and writes nothing.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.files import sha256
from bigs_cli.data.corpus import Array, unmask
from bigs_cli.data.hdf5_rows import HDF5File, HDF5Rows, inspect, read_rows, row_bytes, split_of
from bigs_cli.data.manifest import MANIFEST, SPLITS, CorpusManifest, Counts, Manifest, Shard, Split, dtype_for
from bigs_cli.data.shard_writer import shard_writers
from bigs_cli.data.staging import staging
from bigs_cli.data.tokenizer import (
    CLS,
    PAD,
    SEP,
    TOKENIZER_JSON,
    UNK,
    VOCAB_TXT,
    fingerprint,
    load_tokenizer,
    save_tokenizer,
    special_ids,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HDF5_SUFFIXES = (".hdf5", ".h5")


class HDF5Corpus:
    """An opened folder of HDF5 files, as a `Corpus`; see `open_hdf5`."""

    static_masks = True

    def __init__(self, folder: Path, files: tuple[HDF5File, ...], tokenizer: Tokenizer) -> None:
        self.folder = folder
        self.files = files
        self.manifest = CorpusManifest(
            sequence_length=files[0].length,
            vocab_size=tokenizer.get_vocab_size(),
            special_ids=special_ids(tokenizer),
            tokenizer=fingerprint(tokenizer),
        )
        self._tokenizer = tokenizer
        self._slots = max(file.slots for file in files)
        self._sha256 = functools.cache(sha256)

    @property
    def size(self) -> str:
        """The number of training rows, as text."""
        rows = sum(file.rows for file in self.files if file.split == "train")
        return f"{rows:,} rows with static masks (masking in the recipe is not used)"

    def has_split(self, name: Split) -> bool:
        """Return whether there are train files or, for "heldout", test files."""
        return any(file.split == name for file in self.files)

    def split(self, name: Split) -> HDF5Rows:
        """Return the rows of the train files or, for "heldout", of the test files.

        Raises:
            RequestError: there are none.
        """
        files = tuple(file for file in self.files if file.split == name)
        if files:
            return self._rows(files)
        suffix = self.files[0].path.suffix
        if name == "train":
            raise RequestError(
                f"{self.folder} has only test files. Rename the files to train on, for example to train_0{suffix}."
            )
        raise RequestError(
            f"{self.folder} has no test files, so there are no rows for evaluation. To hold out a file, rename it, for "
            f"example to test_0{suffix}; or convert the corpus, which holds out rows: "
            f"bigs tokenize --input {self.folder} --output DIR"
        )

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer with which the corpus was opened."""
        return self._tokenizer

    @property
    def digest(self) -> str:
        """The SHA-256 of the bytes of all files in order, which does not depend on their location.

        The first access reads all files without decompressing them, which takes seconds per gigabyte.
        """
        parts = (f"{file.split} {self._sha256(file.path)}" for file in self.files)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def nbytes(self) -> int:
        """The size of all rows in bytes, decompressed."""
        return sum(file.rows for file in self.files) * row_bytes(self.manifest.sequence_length, self._slots)

    def verify(
        self, advance: Callable[[int], None], process: int = 0, processes: int = 1, resumed: bool = False
    ) -> None:
        """Decompress and check every row, in every process. With `resumed`, do nothing: comparing `digest` suffices.

        Raises:
            RequestError: a file is corrupt, or contains invalid ids, positions or masks; the message names the first
                such file.
        """
        if resumed:
            return
        for file in self.files:
            self._sha256(file.path)  # so that `digest` does not read it again
            for block in self._rows((file,)).blocks():
                advance(sum(rows.nbytes for rows in block.values()))

    def _rows(self, files: tuple[HDF5File, ...]) -> HDF5Rows:
        return HDF5Rows(files, self._slots, self.manifest.vocab_size)


def open_hdf5(folder: Path, tokenizer: Tokenizer, say: Callable[[str], None] = lambda sentence: None) -> HDF5Corpus:
    """Return the HDF5 files in `folder`, sorted by name; `say` is called with a note on each skipped file.

    Only the shapes and the first rows of the files are checked; `HDF5Corpus.verify` checks all rows.

    Raises:
        RequestError: h5py is missing, or a file cannot be used; the message names the first such file.
    """
    paths = _hdf5_paths(folder)
    files: list[HDF5File] = []
    for path in paths:
        if not path.exists():
            say(f"{path} is skipped: it is a broken link.")
        elif split := split_of(path):
            files.append(inspect(path, split))
        else:
            say(f"{path} is skipped: its name contains neither train nor test.")
    if not files:
        raise RequestError(
            f"No HDF5 file in {folder} has train or test in its name. Rename the files, for example to "
            f"train_0{paths[0].suffix} and test_0{paths[0].suffix}."
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
    """Return whether `folder` contains HDF5 files and no token shards."""
    return folder.is_dir() and not (folder / MANIFEST).exists() and any(map(Path.is_file, _hdf5_paths(folder)))


def hdf5_tokenizer(folder: Path, otherwise: str | Path | Tokenizer) -> Tokenizer:
    """Return the tokenizer in a folder of HDF5 files, else `otherwise`: a tokenizer, or its file, folder or hub id.

    Raises:
        RequestError: it cannot be used, or does not exist.
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
            f"The HDF5 files in {folder} contain no tokenizer, and the folder has no {VOCAB_TXT} or {TOKENIZER_JSON}. "
            f"{error} Or put the {VOCAB_TXT} with which the files were made into {folder}."
        ) from None


def convert_hdf5(
    corpus: HDF5Corpus,
    output: Path,
    *,
    heldout: float,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda tokens: None,
) -> Manifest:
    """Write `corpus` as token shards with its masked tokens restored, and return their manifest.

    The rows of test files are held out. Without test files, about the fraction `heldout` of all rows is held out; see
    `_original_rows`. Segment ids and next-sentence labels are left out. `advance` is called with the number of tokens
    of each block.

    Raises:
        RequestError: the output is in use, a file cannot be used, or one of the two splits would be empty.
    """
    started, counts, found = time.monotonic(), Counts(), corpus.manifest
    length, dtype = found.sequence_length, dtype_for(found.vocab_size)
    with staging(output, overwrite=overwrite) as place:
        splits: dict[Split, tuple[Shard, ...]]
        with shard_writers(place.folder, dtype, length) as writers:
            for split, rows in _original_rows(corpus, heldout):
                writers[split].write(rows)
                counts += (read := _counts(rows, found.special_ids))
                advance(read.tokens)
            splits = {split: writer.finish() for split, writer in writers.items()}
        if not splits["train"] or (heldout > 0 and not splits["heldout"]):  # only without test files
            raise RequestError(
                f"With {counts.rows} rows in {corpus.folder}, --heldout {heldout} leaves none "
                f"{'to hold out' if splits['train'] else 'to train on'}. Choose another fraction, or 0."
            )
        save_tokenizer(corpus.tokenizer(), place.folder)
        return place.publish(
            Manifest(
                sources=(str(corpus.folder),),
                sequence_length=length,
                dtype=dtype,
                vocab_size=found.vocab_size,
                special_ids=found.special_ids,
                tokenizer=found.tokenizer,
                packing=None,
                splits=splits,
                report=counts.report(length, time.monotonic() - started),
            )
        )


def _original_rows(corpus: HDF5Corpus, heldout: float) -> Iterator[tuple[Split, Array]]:
    """Yield all rows `[n, L]` int32 without masks, with their split, in blocks of bounded size.

    Without test files, a hash of a row's tokens decides whether it is held out: copies of a text with different masks
    are in the same split.
    """
    tested = corpus.has_split("heldout")
    for split in SPLITS if tested else SPLITS[:1]:
        for block in corpus.split(split).blocks():
            rows = np.where(block["attention_mask"], unmask(block), corpus.manifest.special_ids[PAD])
            if tested:
                yield split, rows
            else:
                held = np.array([_is_heldout(row, heldout) for row in rows])
                yield "train", rows[~held]
                yield "heldout", rows[held]


def _is_heldout(row: Array, fraction: float) -> bool:
    digest = hashlib.blake2b(row.astype("<i4").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest) < fraction * 2.0**64


def _counts(rows: Array, ids: dict[str, int]) -> Counts:
    filled = int((rows != ids[PAD]).sum())
    return Counts(
        tokens=filled - int(np.isin(rows, [ids[CLS], ids[SEP]]).sum()),
        unknown=int((rows == ids[UNK]).sum()),
        rows=len(rows),
        filled=filled,
    )


def _hdf5_paths(folder: Path) -> list[Path]:
    """Return the entries of a folder with the suffix of an HDF5 file: files, and links, including broken ones."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in HDF5_SUFFIXES
        and not path.name.startswith(".")
        and (path.is_file() or path.is_symlink())
    )
