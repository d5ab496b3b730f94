"""Token shards: a folder of flat arrays `[n, L]` and a manifest that describes them.

`train-00000.bin`, `heldout-00000.bin`, … contain token ids row by row, little-endian, without a header; they are
memory-mapped. `manifest.json` is written last: a folder without it contains no finished shards.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import resource
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.json_objects import checked, read_object
from bigs_cli.data.corpus import Array, Batch
from bigs_cli.data.manifest import MAKE_AGAIN, MANIFEST, SPLITS, UNFINISHED, Manifest, Shard, Split
from bigs_cli.data.order import Shuffle
from bigs_cli.data.tokenizer import fingerprint, load_tokenizer
from bigs_cli.data.verify import verify

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class MappedRows:
    """The memory-mapped rows of one split."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        """Create the rows from `arrays`, each `[n, L]`."""
        self._arrays = [np.asarray(array) for array in arrays]  # all operations of np.memmap are slower
        self._ends = np.cumsum([len(array) for array in arrays])
        self._starts = self._ends - [len(array) for array in arrays]

    def __len__(self) -> int:
        return int(self._ends[-1])

    def take(self, indices: Array) -> Batch:
        """Return copies of the rows at `indices` (`[B]`, in any order): `input_ids` `[B, L]`.

        Raises:
            IndexError: there is no such row.
        """
        order = np.argsort(indices)
        places = indices[order]
        if len(places) and not 0 <= places[0] <= places[-1] < len(self):
            raise IndexError(f"rows {places[0]} to {places[-1]} of {len(self)}")
        shards = np.searchsorted(self._ends, places, side="right")
        places -= self._starts[shards]
        found = np.empty((len(places), *self._arrays[0].shape[1:]), self._arrays[0].dtype)
        bounds = np.flatnonzero(np.diff(shards, prepend=-1, append=-1)).tolist()
        for begin, end in itertools.pairwise(bounds):
            # Unlike indexing, `take` lets other threads run while it waits for the disk; "clip" avoids a second copy.
            self._arrays[shards[begin]].take(places[begin:end], axis=0, out=found[begin:end], mode="clip")
        taken = np.empty_like(found)
        taken[order] = found
        return {"input_ids": taken}

    def order(self, seed: int) -> Callable[[Array], Array]:
        """Return the training order, which shuffles all rows."""
        return Shuffle(len(self), seed).take

    def __repr__(self) -> str:
        return f"MappedRows({len(self)})"


class Shards:
    """An opened folder of token shards, as a `Corpus`; see `open_shards`."""

    static_masks = False

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    def files(self) -> list[tuple[Path, Shard]]:
        """Return the path and the description of every shard."""
        splits = self.manifest.splits
        return [(self.folder / shard.file, shard) for split in SPLITS for shard in splits.get(split, ())]

    @property
    def nbytes(self) -> int:
        """The size of all shards in bytes."""
        return sum(shard.rows for _, shard in self.files()) * self.manifest.row_bytes

    @property
    def size(self) -> str:
        """The number of tokens, as text."""
        return f"{self.manifest.report.tokens / 1e6:.1f}M tokens"

    def has_split(self, name: Split) -> bool:
        """Return whether the split has any rows."""
        return self.manifest.rows(name) > 0

    def split(self, name: Split) -> MappedRows:
        """Return the memory-mapped rows of "train" or "heldout".

        Raises:
            RequestError: the split has no rows.
            BigsError: a file cannot be mapped.
        """
        shards = self.manifest.splits.get(name, ())
        if not shards:
            raise RequestError(
                f"{self.folder} has no {name} rows. Make the shards again with another --heldout fraction."
            )
        length = self.manifest.sequence_length
        dtype = np.dtype(self.manifest.dtype).newbyteorder("<")
        _allow_open_files(len(shards))
        try:
            return MappedRows(
                [np.memmap(self.folder / s.file, dtype, mode="r", shape=(s.rows, length)) for s in shards]
            )
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
            raise BigsError(
                f"{self.folder} cannot be read ({error.strerror}, {len(shards)} files). "
                "If there are too many open files, raise the limit: ulimit -n"
            ) from None

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer with which the rows were made.

        Raises:
            RequestError: it was replaced, is malformed, or is missing.
        """
        tokenizer = load_tokenizer(self.folder)
        if fingerprint(tokenizer) != self.manifest.tokenizer:
            raise RequestError(
                f"The tokenizer in {self.folder} is not the one with which its shards were made. {MAKE_AGAIN}"
            )
        return tokenizer

    @property
    def digest(self) -> str:
        """The SHA-256 of the rows, which does not depend on their location."""
        parts = [self.manifest.tokenizer, *(shard.sha256 for _, shard in self.files())]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def verify(
        self, advance: Callable[[int], None], process: int = 0, processes: int = 1, resumed: bool = False
    ) -> None:
        """Check the content of every shard that is not known to be valid; see `verify.verify`.

        Raises:
            RequestError: shards were modified or cannot be read.
        """
        verify(self, process, processes, advance)


def open_shards(folder: str | Path) -> Shards:
    """Return the shards in `folder` after checking the manifest and the size of every file. `verify` reads the files.

    Raises:
        RequestError: there are none, the manifest is malformed, or files are missing or have the wrong size; the
            message names all of them.
    """
    shards = read_manifest(folder)
    wrong = [
        error for file, shard in shards.files() if (error := _size_error(file, shard.rows * shards.manifest.row_bytes))
    ]
    if wrong:
        raise RequestError("\n".join([*wrong, MAKE_AGAIN]))
    return shards


def read_manifest(folder: str | Path) -> Shards:
    """Return the shards in `folder`, reading only the manifest; the files are not checked.

    Raises:
        RequestError: there are none, or the manifest is malformed.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / UNFINISHED).is_dir():
            raise RequestError(
                f"The token shards in {folder} are unfinished. Continue with "
                f"`bigs tokenize --resume --output {shlex.quote(str(folder))}`."
            )
        raise RequestError(
            f"There are no token shards in {folder} (no {MANIFEST}). "
            f"Make them with: bigs tokenize --input PATH --length L --vocab FILE --output {folder}"
        )
    return Shards(folder, checked(read_object(path, MAKE_AGAIN), Manifest, path, MAKE_AGAIN))


def _size_error(file: Path, expected: int) -> str | None:
    """Return a sentence if a shard is missing or has the wrong size, else None."""
    if not file.is_file():
        return f"{file} is missing, but {MANIFEST} names it."
    size = file.stat().st_size
    if size != expected:
        return f"{file} is truncated or modified: it has {size} bytes instead of {expected}."
    return None


def _allow_open_files(count: int) -> None:
    """Raise the limit of open files of this process, as far as allowed, for `count` mapped files, which stay open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * count + 1024  # two sets of rows, and other open files
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
