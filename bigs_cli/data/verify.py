"""Whether shards are what their manifest says: every byte is read once, and what was found sound is remembered.

The cache folder holds, for each folder of shards, one line a file: its size, times and inode when it was read, and the
SHA-256 it had. A file of which all these are the same is not read again, so that a run starts as fast on a terabyte as
on a megabyte. A file that was written to, or a copy, is read once more.
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
    """Raise unless every shard is what the manifest says; read those that are new or were written to.

    Process p of several does so for the shards p, p + count, p + 2·count, … `advance` is told the bytes of every
    shard once that is known to be sound, or not.

    Raises:
        RequestError: shards were altered or cannot be read; all of them are named.
    """
    memory = _Memory(shards.folder)
    unknown: list[File] = []
    for path, shard in shards.files()[process_index::process_count]:
        if memory.knows(path, shard):
            advance(shard.rows * shards.manifest.row_bytes)
        else:
            unknown.append((path, shard))
    problems = _read_all(unknown, shards.manifest, advance, memory.add)
    if problems:
        raise RequestError("\n".join([*problems, MAKE_AGAIN]))


def check(shards: Shards, advance: Callable[[int], None] = lambda size: None) -> list[str]:
    """Read everything, whatever is remembered, and return what is wrong: sentences, none if all is well.

    That is every shard, its SHA-256 and its token ids, and the tokenizer beside them, as tokenizer.json and as
    vocab.txt. `shards` may be those of `read_manifest`. `advance` is told the bytes of every shard.
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
    sound: Callable[[Path, Shard, os.stat_result], None] = lambda path, shard, status: None,
) -> list[str]:
    """Read the files, several at once; return what is wrong, and tell `sound` of those with which nothing is."""
    problems = []
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="verify")
    try:
        for (path, shard), result in zip(files, pool.map(partial(_read, manifest), files), strict=True):
            if isinstance(result, str):
                problems.append(result)
            else:
                sound(path, shard, result)
            advance(shard.rows * manifest.row_bytes)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for files that were not begun.
    return problems


def _read(manifest: Manifest, file: File) -> str | os.stat_result:
    """Read a shard; return what is wrong with it, a sentence, or the status it had as the reading began."""
    path, shard = file
    digest, highest = hashlib.sha256(), 0
    dtype = np.dtype(manifest.dtype).newbyteorder("<")
    try:
        with path.open("rb") as opened:
            status = os.fstat(opened.fileno())  # Before it is read: what is written to it meanwhile is not missed.
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


class _Memory:
    """The shards of a folder that were found sound. Nothing depends on it but time: it may be lost, or not be kept.

    Lines are only ever added, each in one write, so that processes can share the file.
    """

    def __init__(self, folder: Path) -> None:
        name = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._file = cache_root() / "verified" / f"{name}.jsonl"
        try:
            self._lines = set(self._file.read_text(encoding="utf-8", errors="replace").splitlines())
        except OSError:
            self._lines = set[str]()

    def knows(self, path: Path, shard: Shard) -> bool:
        """Say whether the file was found sound, and nothing about it has changed since."""
        try:
            return _line(path, shard, path.stat()) in self._lines
        except OSError:
            return False

    def add(self, path: Path, shard: Shard, status: os.stat_result) -> None:
        """Remember that a file is sound."""
        with contextlib.suppress(OSError):  # The next start reads the shard again.
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab", buffering=0) as file:
                file.write(f"{_line(path, shard, status)}\n".encode())


def _line(path: Path, shard: Shard, status: os.stat_result) -> str:
    known: dict[str, Any] = {
        "file": str(path.resolve()),
        "size": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "changed_ns": status.st_ctime_ns,  # moves on when somebody sets the time of modification back
        "inode": status.st_ino,
        "sha256": shard.sha256,
    }
    return json.dumps(known)
