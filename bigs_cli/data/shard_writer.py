"""Writing token shards: files of bounded size that are hashed while they are written, and can be continued after a
crash.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import name_in_errors
from bigs_cli.data.manifest import SPLITS, Shard, Split

SHARD_BYTES = 1 << 26
"""The maximum size of a file in bytes."""
_BLOCK = 1 << 20  # bytes read at a time


class CorruptTemporaryFilesError(RequestError):
    """The unfinished files of an earlier process were modified, so they cannot be continued."""

    def __init__(self, path: Path, what: str = "is corrupt") -> None:
        super().__init__(
            f"{path} {what}, so the tokenization cannot be resumed. To start over, repeat the original command with "
            "--overwrite instead of --resume."
        )


@dataclass(frozen=True)
class Written:
    """The progress of a `ShardWriter`: its full files, and the rows in the current file."""

    finished: tuple[Shard, ...] = ()
    rows: int = 0


@contextlib.contextmanager
def shard_writers(
    folder: Path, dtype: str, length: int, written: Mapping[Split, Written] | None = None
) -> Iterator[dict[Split, ShardWriter]]:
    """Yield a writer for each split, which continues from `written`, and close all files at the end.

    Raises:
        CorruptTemporaryFilesError: the files do not match `written`.
    """
    with contextlib.ExitStack() as opened:
        writers = {}
        for split in SPLITS:
            writers[split] = ShardWriter(folder, split, dtype, length, written=(written or {}).get(split))
            opened.callback(writers[split].close)
        yield writers


class ShardWriter:
    """Writes the rows `[n, L]` of one split into `folder` as files of at most `shard_rows` rows.

    With `written`, it continues from that progress; later rows on disk are removed.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        dtype: str,
        length: int,
        *,
        shard_rows: int | None = None,
        written: Written | None = None,
    ) -> None:
        """Continue from `written`, or start.

        Raises:
            CorruptTemporaryFilesError: the files do not match `written`.
        """
        written = written or Written()
        self._folder = folder
        self._split = split
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._width = length * self._dtype.itemsize
        self._shard_rows = shard_rows or max(1, SHARD_BYTES // self._width)
        self._finished = list(written.finished)
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self._rows = 0
        if written.rows:
            self._reopen(written.rows)

    def write(self, rows: np.ndarray[Any, Any]) -> None:
        """Append rows `[n, L]` of token ids.

        Raises:
            OSError: the disk failed; `filename` is the folder.
        """
        while len(rows):
            if self._file is None:
                self._file = (self._folder / self._name()).open("wb")
            part, rows = np.split(rows, [self._shard_rows - self._rows])
            data = part.astype(self._dtype).tobytes()
            with name_in_errors(self._folder):
                self._file.write(data)
            self._digest.update(data)
            self._rows += len(part)
            if self._rows == self._shard_rows:
                self._finish()

    def flush(self) -> Written:
        """Write all rows to disk, and return the progress, which can be passed as `written`.

        Raises:
            OSError: the disk failed; `filename` is the folder.
        """
        if self._file is not None:
            with name_in_errors(self._folder):
                self._file.flush()
                os.fsync(self._file.fileno())
        return Written(tuple(self._finished), self._rows)

    def finish(self) -> tuple[Shard, ...]:
        """Finish the last file and return all files in order."""
        self._finish()
        return tuple(self._finished)

    def close(self) -> None:
        """Close the open file; rows up to the last `flush` remain on disk."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk, which `write` or `flush` has reported
                self._file.close()
            self._file = None

    def _name(self) -> str:
        return f"{self._split}-{len(self._finished):05d}.bin"

    def _reopen(self, rows: int) -> None:
        path, size = self._folder / self._name(), rows * self._width
        if not path.is_file() or path.stat().st_size < size:
            raise CorruptTemporaryFilesError(path, "is shorter than before")
        self._file, self._rows = path.open("r+b"), rows
        for start in range(0, size, _BLOCK):
            self._digest.update(self._file.read(min(_BLOCK, size - start)))
        self._file.truncate(size)

    def _finish(self) -> None:
        if self._file is None:
            return
        self.flush()
        self._file.close()
        self._finished.append(Shard(file=self._name(), rows=self._rows, sha256=self._digest.hexdigest()))
        self._file, self._digest, self._rows = None, hashlib.sha256(), 0
