"""Whether shards match their manifest: every byte is read once, and valid files are remembered.

The cache folder holds one file per folder of shards, with a line per valid shard: its size, times and inode when it was
read, and its SHA-256. A shard that still has all of these is not read again, so a run starts as fast on a terabyte as
on a megabyte. A shard that was written to, or copied, is read once more.
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
    """Check every shard against the manifest; read those that are new or were written to.

    Process p of several checks the shards p, p + count, p + 2·count, … `advance` receives the bytes of each shard once
    it is checked.

    Raises:
        RequestError: shards were altered or cannot be read; all of them are named.
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
    """Read everything, remembered or not, and return a sentence for each fault.

    That is the SHA-256 and the token ids of every shard, and the tokenizer beside them, as tokenizer.json and as
    vocab.txt. `shards` may come from `read_manifest`. `advance` receives the bytes of each shard.
    """
    problems = _read_all(shards.files(), shards.manifest, advance)
    try:
        words = vocabulary_lines(shards.tokenizer())
        if (shards.folder / VOCAB_TXT).read_text(encoding="utf-8") != words:
            problems.append(f"{shards.folder / VOCAB_TXT} is not the vocabulary of the {TOKENIZER_JSON} beside it.")
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
    """Read several files at a time; return a sentence for each fault, and call `valid` for each valid file."""
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
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for files that are not started.
    return problems


def _read(manifest: Manifest, file: File) -> str | os.stat_result:
    """Read a shard; return a sentence about its fault, or its status from before it was read."""
    path, shard = file
    digest, highest = hashlib.sha256(), 0
    dtype = np.dtype(manifest.dtype).newbyteorder("<")
    try:
        with path.open("rb") as opened:
            status = os.fstat(opened.fileno())  # from before it is read, so that a change meanwhile is noticed
            block = memoryview(bytearray(_BLOCK))
            while size := opened.readinto(block):
                digest.update(block[:size])
                ids = np.frombuffer(block, dtype, size // dtype.itemsize)
                highest = max(highest, int(ids.max(initial=0)))
    except OSError as error:
        return f"{path} cannot be read ({error.strerror or error})."
    if digest.hexdigest() != shard.sha256:
        return f"{path} was altered: its SHA-256 is not the one in {MANIFEST}. Fetch or make it again."
    if highest >= manifest.vocab_size:
        beyond = f"beyond the {manifest.vocab_size} entries of the vocabulary"
        return f"{path} holds the token id {highest}, {beyond}. Fetch or make it again."
    return status


class _KnownShards:
    """The shards of a folder that were valid when they were read. Losing the file only costs time.

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
        with contextlib.suppress(OSError):  # then the next start reads the shard again
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab", buffering=0) as file:
                file.write(f"{_line(path, shard, status)}\n".encode())


def _line(path: Path, shard: Shard, status: os.stat_result) -> str:
    known: dict[str, Any] = {
        "file": str(path.resolve()),
        "size": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "changed_ns": status.st_ctime_ns,  # changes even when somebody restores the time of modification
        "inode": status.st_ino,
        "sha256": shard.sha256,
    }
    return json.dumps(known)
