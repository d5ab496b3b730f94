"""Token shards of any size for benchmarks, made of repeated rows."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json
from bigs_cli.data.manifest import MANIFEST, Manifest, Report, dtype_for
from bigs_cli.data.shard_writer import ShardWriter, Written
from bigs_cli.data.shards import Shards

Rows = np.ndarray[Any, Any]

VOCAB_SIZE = 30522  # vocabulary size of random tokens, as in BERT
_SOURCE_TOKENS = 1 << 22


def source_rows(shards: Shards | None, length: int) -> tuple[Rows, int]:
    """Return rows `[n, length]` to repeat and their vocabulary size: from `shards`, or random tokens.

    Raises:
        RequestError: the shards have fewer tokens than one row.
    """
    if shards is None:
        # Log-uniform ids: the frequency of the token of rank k is proportional to 1/k, as in text.
        drawn = VOCAB_SIZE ** np.random.default_rng(0).random((_SOURCE_TOKENS // length + 1, length))
        return drawn.astype(dtype_for(VOCAB_SIZE)), VOCAB_SIZE
    rows = shards.split("train")
    enough = -(-_SOURCE_TOKENS // shards.manifest.sequence_length)
    tokens = rows.take(np.arange(min(len(rows), enough)))["input_ids"].ravel()
    if len(tokens) < length:
        raise RequestError(f"{shards.folder} has fewer than {length} tokens. Name larger shards, or leave out --data.")
    return tokens[: len(tokens) // length * length].reshape(-1, length), shards.manifest.vocab_size


def check_space(tokens: int, vocab_size: int) -> int:
    """Return the size of a corpus in bytes.

    Raises:
        RequestError: the temporary folder has too little free space.
    """
    needed = tokens * np.dtype(dtype_for(vocab_size)).itemsize
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < 1.1 * needed:
        raise RequestError(
            f"A corpus of {tokens:,} tokens needs {needed / 1e9:.2f} GB; {folder} has {free / 1e9:.2f} GB free. "
            "Lower --tokens, or name another temporary folder with TMPDIR=…"
        )
    return needed


class GrowingCorpus:
    """A folder of shards that can be extended."""

    def __init__(self, folder: Path, rows: Rows, vocab_size: int) -> None:
        """Create an empty corpus that repeats `rows` `[n, L]`."""
        folder.mkdir()
        self.folder = folder
        self.length = rows.shape[1]
        self.rows = 0
        self._source = rows
        self._vocab_size = vocab_size
        self._written = Written()

    def grow(self, rows: int) -> Manifest:
        """Add rows until there are `rows`; write and return the manifest."""
        dtype = dtype_for(self._vocab_size)
        writer = ShardWriter(self.folder, "train", dtype, self.length, written=self._written)
        while self.rows < rows:
            start = self.rows % len(self._source)
            part = self._source[start : start + rows - self.rows]
            writer.write(part)
            self.rows += len(part)
        self._written = writer.flush()
        manifest = Manifest(
            sources=("bigs bench",),
            sequence_length=self.length,
            dtype=dtype,
            vocab_size=self._vocab_size,
            special_ids={},
            tokenizer="",
            packing=None,
            splits={"train": writer.finish()},
            report=Report(
                documents=0,
                heldout_documents=0,
                short_documents=0,
                sentences=0,
                tokens=self.rows * self.length,
                sequences=self.rows,
                unknown_rate=0.0,
                fill_rate=1.0,
                seconds=0.0,
                tokens_per_second=0.0,
            ),
        )
        write_json(self.folder / MANIFEST, manifest.model_dump(mode="json"))
        return manifest
