"""Token shards with given rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from bigs_cli.core.files import write_json
from bigs_cli.data.manifest import MANIFEST, Manifest, Packing, Report, dtype_for
from bigs_cli.data.shard_writer import ShardWriter
from bigs_cli.data.tokenizer import fingerprint, save_tokenizer, special_ids


def numbered(count: int, length: int = 4, first: int = 0) -> np.ndarray[Any, Any]:
    """Return rows `[count, length]` that each contain their own number: `first`, `first` + 1, …"""
    return np.repeat(np.arange(first, first + count)[:, None], length, axis=1)


def write_shards(
    folder: Path,
    train: np.ndarray[Any, Any],
    heldout: np.ndarray[Any, Any],
    *,
    vocab_size: int = 1 << 16,
    shard_rows: int = 7,
    tokenizer: Tokenizer | None = None,
) -> Path:
    """Write rows `[n, L]` as shards of at most `shard_rows` rows, and return `folder`."""
    folder.mkdir(parents=True)
    dtype, splits = dtype_for(vocab_size), {}
    for split, rows in (("train", train), ("heldout", heldout)):
        writer = ShardWriter(folder, split, dtype, rows.shape[1], shard_rows=shard_rows)
        writer.write(rows)
        splits[split] = writer.finish()
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder)
    counted = dict.fromkeys(("documents", "heldout_documents", "short_documents", "sentences"), 0)
    rates = dict.fromkeys(("unknown_rate", "fill_rate", "seconds", "tokens_per_second"), 1.0)
    manifest = Manifest(
        sources=("test",),
        sequence_length=train.shape[1],
        dtype=dtype,
        vocab_size=vocab_size,
        special_ids={} if tokenizer is None else special_ids(tokenizer),
        tokenizer="none" if tokenizer is None else fingerprint(tokenizer),
        packing=Packing(),
        splits=splits,
        report=Report(**counted, **rates, tokens=train.size + heldout.size, sequences=len(train) + len(heldout)),
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return folder
