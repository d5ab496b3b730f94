"""Verifies that shards match their manifest: every byte is read once, and valid files are remembered.

The cache folder contains one file per folder of shards, with a line per valid shard: its size, times and inode when it
was read, and its SHA-256. A shard with unchanged values is not read again, so the start of a run takes as long with a
terabyte as with a megabyte. A shard that was modified or copied is read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.core.cache import cache_root
from bigs_cli.core.errors import RequestError
from bigs_cli.data.manifest import MAKE_AGAIN, MANIFEST, Manifest, Shard
from bigs_cli.data.tokenizer import TOKENIZER_JSON, VOCAB_TXT, vocabulary_lines

if TYPE_CHECKING:
    from bigs_cli.data.shards import Shards

_BLOCK = 1 << 20
_THREADS = min(8, os.cpu_count() or 1)

File = tuple[Path, Shard]


def verify(
    shards: Shards,
    process_index: int = 0,
    process_count: int = 1,
    advance: Callable[[int], None] = lambda size: None,
) -> None:
    """Check every shard against the manifest; only new or modified shards are read.

    Process p of several checks the shards p, p + count, p + 2·count, … `advance` is called with the size of each
    checked shard in bytes.

    Raises:
        RequestError: shards were modified or cannot be read; the message names all of them.
    """
    known = _KnownShards(shards.folder)
    unknown: list[File] = []
    for path, shard in shards.files()[process_index::process_count]:
        if known.has(path, shard):
            advance(shard.rows * shards.manifest.row_bytes)
        else:
            unknown.append((path, shard))
    problems = _read_all(unknown, shards.manifest, advance, known.add)
    if problems:
        raise RequestError("\n".join([*problems, MAKE_AGAIN]))


def check(shards: Shards, advance: Callable[[int], None] = lambda size: None) -> list[str]:
    """Read all files, remembered or not, and return a message for each problem.

    This checks the SHA-256 and the token ids of every shard, and the tokenizer in tokenizer.json and vocab.txt.
    `shards` may be the result of `read_manifest`. `advance` is called with the size of each shard in bytes.
    """
    problems = _read_all(shards.files(), shards.manifest, advance)
    try:
        words = vocabulary_lines(shards.tokenizer())
        if (shards.folder / VOCAB_TXT).read_text(encoding="utf-8") != words:
            problems.append(
                f"{shards.folder / VOCAB_TXT} is not the vocabulary of the {TOKENIZER_JSON} in the same folder."
            )
    except RequestError as error:
        problems.append(str(error))
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{shards.folder / VOCAB_TXT} cannot be read ({error}).")
    return problems


def _read_all(
    files: Sequence[File],
    manifest: Manifest,
    advance: Callable[[int], None],
    valid: Callable[[Path, Shard, os.stat_result], None] = lambda path, shard, status: None,
) -> list[str]:
    """Read several files at a time; return a message for each problem, and call `valid` for each valid file."""
    problems = []
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="verify")
    try:
        for (path, shard), result in zip(files, pool.map(partial(_read, manifest), files), strict=True):
            if isinstance(result, str):
                problems.append(result)
            else:
                valid(path, shard, result)
            advance(shard.rows * manifest.row_bytes)
    finally:
        pool.shutdown(cancel_futures=True)  # After Ctrl-C, no further file is started.
    return problems


def _read(manifest: Manifest, file: File) -> str | os.stat_result:
    """Read a shard; return a message if it is not valid, else its status from before reading."""
    path, shard = file
    digest, highest = hashlib.sha256(), 0
    dtype = np.dtype(manifest.dtype).newbyteorder("<")
    try:
        with path.open("rb") as opened:
            status = os.fstat(opened.fileno())  # from before reading, so that a concurrent change is noticed
            block = memoryview(bytearray(_BLOCK))
            while size := opened.readinto(block):
                digest.update(block[:size])
                ids = np.frombuffer(block, dtype, size // dtype.itemsize)
                highest = max(highest, int(ids.max(initial=0)))
    except OSError as error:
        return f"{path} cannot be read ({error.strerror or error})."
    if digest.hexdigest() != shard.sha256:
        return f"{path} was modified: its SHA-256 is not the one in {MANIFEST}. Download or generate it again."
    if highest >= manifest.vocab_size:
        beyond = f"beyond the {manifest.vocab_size} entries of the vocabulary"
        return f"{path} contains the token id {highest}, {beyond}. Download or generate it again."
    return status


class _KnownShards:
    """The record of the valid shards of a folder. Losing it only costs time.

    Lines are only appended, each in one write, so several processes can share the file.
    """

    def __init__(self, folder: Path) -> None:
        name = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._file = cache_root() / "verified" / f"{name}.jsonl"
        try:
            self._lines = set(self._file.read_text(encoding="utf-8", errors="replace").splitlines())
        except OSError:
            self._lines = set[str]()

    def has(self, path: Path, shard: Shard) -> bool:
        """Return whether the file was valid and has not changed since."""
        try:
            return _line(path, shard, path.stat()) in self._lines
        except OSError:
            return False

    def add(self, path: Path, shard: Shard, status: os.stat_result) -> None:
        """Remember a valid file."""
        with contextlib.suppress(OSError):  # the next start then reads the shard again
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab", buffering=0) as file:
                file.write(f"{_line(path, shard, status)}\n".encode())


def _line(path: Path, shard: Shard, status: os.stat_result) -> str:
    known: dict[str, Any] = {
        "file": str(path.resolve()),
        "size": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "changed_ns": status.st_ctime_ns,  # ctime changes even if the modification time is restored
        "inode": status.st_ino,
        "sha256": shard.sha256,
    }
    return json.dumps(known)
