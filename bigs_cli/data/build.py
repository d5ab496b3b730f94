"""From documents to a folder of token shards: pack, set a part aside, write, count, and publish all at once."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json
from bigs_cli.data.packing import Packed, Packer, batches
from bigs_cli.data.shards import MANIFEST, SPLITS, Manifest, Report, ShardWriter, open_shards
from bigs_cli.data.tokenizer import fingerprint, save_tokenizer, special_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_STAGING = ".partial"


def build_shards(
    documents: Iterable[str],
    tokenizer: Tokenizer,
    output: Path,
    *,
    sequence_length: int,
    heldout: float,
    min_tokens: int,
    sources: Sequence[str],
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda tokens: None,
) -> Manifest:
    """Write `documents` as shards into `output` and return their manifest.

    A document is held out, or not, by the hash of its text (`is_heldout`), so that no text is in both splits.
    Until all is written the folder keeps what it held; after an error nothing new is in it. `advance` is told
    the tokens of every batch.

    Raises:
        RequestError: the folder is in use, the text is bad, or one of the two splits would be empty.
    """
    check_output(output, overwrite)
    packer = Packer(tokenizer, sequence_length, min_tokens)
    vocab_size = tokenizer.get_vocab_size()
    dtype = "uint16" if vocab_size <= 1 << 16 else "uint32"
    counts, started = _Counts(), time.perf_counter()
    with _staging(output) as staging:
        writers = {split: ShardWriter(staging, split, dtype) for split in SPLITS}
        for batch in batches(documents):
            packed = packer.pack(batch)
            held = np.array([is_heldout(document, heldout) for document in batch])
            held_rows = held[packed.document]
            writers["train"].write(packed.rows[~held_rows])
            writers["heldout"].write(packed.rows[held_rows])
            counts.add(packed, held)
            advance(packed.tokens)
        splits = {split: writer.close() for split, writer in writers.items()}
        if not splits["train"] or (heldout > 0 and not splits["heldout"]):
            raise RequestError(_too_little("heldout" if splits["train"] else "train", counts, heldout))
        save_tokenizer(tokenizer, staging)
        manifest = Manifest(
            sources=tuple(sources),
            sequence_length=sequence_length,
            dtype=dtype,
            vocab_size=vocab_size,
            special_ids=special_ids(tokenizer),
            tokenizer=fingerprint(tokenizer),
            splits={split: splits[split] for split in ("train", "heldout")},
            report=counts.report(sequence_length, time.perf_counter() - started),
        )
        _publish(staging, output, manifest)
    return manifest


def check_output(output: Path, overwrite: bool) -> None:
    """Raise RequestError unless shards may be written into `output`."""
    if output.exists() and not output.is_dir():
        raise RequestError(f"{output} is a file. --output takes a folder.")
    if (output / MANIFEST).exists() and not overwrite:
        raise RequestError(
            f"{output} holds token shards already. Name another --output, or replace them with --overwrite."
        )


def is_heldout(document: str, fraction: float) -> bool:
    """Say whether a document is held out: by its text alone, for about `fraction` of all texts."""
    digest = hashlib.blake2b(document.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) < fraction * 2.0**64


@dataclass
class _Counts:
    documents: int = 0
    heldout: int = 0
    short: int = 0
    tokens: int = 0
    unknown: int = 0
    rows: int = 0

    def add(self, packed: Packed, held: np.ndarray) -> None:
        self.documents += len(held)
        self.heldout += int(held.sum())
        self.short += packed.dropped
        self.tokens += packed.tokens
        self.unknown += packed.unknown
        self.rows += len(packed.rows)

    def report(self, sequence_length: int, seconds: float) -> Report:
        return Report(
            documents=self.documents,
            heldout_documents=self.heldout,
            short_documents=self.short,
            tokens=self.tokens,
            sequences=self.rows,
            unknown_rate=self.unknown / self.tokens,
            fill_rate=(self.tokens + 2 * self.rows) / (self.rows * sequence_length),
            seconds=round(seconds, 3),
            tokens_per_second=round(self.tokens / seconds, 1),
        )


def _too_little(empty: str, counts: _Counts, heldout: float) -> str:
    if counts.documents == counts.short:
        return f"None of the {counts.documents} documents is long enough for a row. Lower --min-tokens, or add text."
    if empty == "train":
        return f"All {counts.documents} documents fell into the held-out part. Lower --heldout {heldout}, or add text."
    return (
        f"None of the {counts.documents} documents fell into the held-out part (--heldout {heldout}). "
        "Raise it, add text, or do without with --heldout 0."
    )


@contextlib.contextmanager
def _staging(output: Path) -> Iterator[Path]:
    """Yield an empty folder inside `output` to write into; leave neither it nor a new `output` behind an error."""
    new = next((path for path in reversed([output, *output.parents]) if not path.exists()), None)
    staging = output / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        yield staging
    except BaseException:
        shutil.rmtree(new if new else staging, ignore_errors=True)
        raise
    staging.rmdir()


def _publish(staging: Path, output: Path, manifest: Manifest) -> None:
    """Move the finished files into place, the manifest last; what it replaces goes first."""
    if (output / MANIFEST).exists():
        (output / MANIFEST).unlink()
        for split in SPLITS:
            for file in output.glob(f"{split}-*.bin"):
                file.unlink()
    for file in sorted(staging.iterdir()):
        file.replace(output / file.name)
    write_json(output / MANIFEST, manifest.model_dump(mode="json"))
    open_shards(output)
