"""From the BiGS authors' HDF5 files to token shards: the words that were masked are put back, and masked anew later."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.hdf5 import HDF5Corpus, open_hdf5
from bigs_cli.data.hdf5_file import Array, unmask
from bigs_cli.data.manifest import SPLITS, Manifest, Shard, Split, dtype_for
from bigs_cli.data.shard_writer import shard_writers
from bigs_cli.data.staging import Counts, staging
from bigs_cli.data.tokenizer import CLS, PAD, SEP, UNK, save_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def convert_hdf5(
    folder: Path,
    tokenizer: Tokenizer,
    output: Path,
    *,
    heldout: float,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda sentence: None,
    advance: Callable[[int], None] = lambda tokens: None,
) -> Manifest:
    """Write the HDF5 files in `folder` as shards into `output` and return their manifest.

    `heldout` matters only without test files; see `original_rows`. Segment ids and next-sentence labels, which shards
    have not, are left out. `say` is told of files that are passed over, `advance` the tokens of every block.

    Raises:
        RequestError: the output is in use, a file cannot be used, or one of the two splits would be empty.
    """
    started, counts = time.monotonic(), Counts()
    corpus = open_hdf5(folder, tokenizer, say)
    found = corpus.manifest
    length, dtype = found.sequence_length, dtype_for(found.vocab_size)
    with staging(output, overwrite=overwrite) as place:
        splits: dict[Split, tuple[Shard, ...]]
        with shard_writers(place.folder, dtype, length) as writers:
            for split, rows in original_rows(corpus, heldout):
                writers[split].write(rows)
                counts += (read := _counts(rows, found.special_ids))
                advance(read.tokens)
            splits = {split: writer.finish() for split, writer in writers.items()}
        if not splits["train"] or (heldout > 0 and not splits["heldout"]):  # only without test files
            raise RequestError(
                f"Of the {counts.rows} rows in {folder}, --heldout {heldout} leaves none "
                f"{'to hold out' if splits['train'] else 'to train on'}. Choose another fraction, or 0."
            )
        save_tokenizer(tokenizer, place.folder)
        return place.publish(
            Manifest(
                sources=(str(folder),),
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


def original_rows(corpus: HDF5Corpus, heldout: float) -> Iterator[tuple[Split, Array]]:
    """Yield all rows `[n, L]` int32 as they were before masking, with their split, in blocks of bounded size.

    Test files are held out. If there are none, about the fraction `heldout` of all rows is, chosen by a row's tokens
    alone: the copies of a text that the pipeline masked in different ways stay together.

    Raises:
        RequestError: there are no train files, or a file is damaged.
    """
    tested = any(file.split == "heldout" for file in corpus.files)
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
