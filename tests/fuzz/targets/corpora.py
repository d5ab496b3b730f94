"""Text, token shards and HDF5 files."""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
from pathlib import Path

import numpy as np

from bigs_cli.data.corpus import open_corpus
from bigs_cli.data.manifest import Packing
from bigs_cli.data.readers import ReadOptions
from bigs_cli.data.shards import open_shards
from bigs_cli.data.sources import find_parts, read_parts
from bigs_cli.data.staging import Progress, Request, Staging
from bigs_cli.data.tokenizer import RESERVED, load_tokenizer
from bigs_cli.data.verify import verify
from tests.data.hdf5_files import masked, originals, write, write_vocab
from tests.data.tiny import numbered, write_shards
from tests.fuzz.targets.target import CSV, JSONL, PARQUET, TSV, Seeds, Target, file_with

WORDS = ("the", "river", "stone", "a", "bridge", "old", ".", "sea")


def _rows(path: Path) -> None:
    for how in (ReadOptions(), ReadOptions(text_documents="block")):
        for _ in itertools.islice(read_parts(find_parts([str(path)], how)), 1000):
            pass


_TEXT = b"The river rises in the hills.\nIt runs to the sea.\n\nBread needs flour.\n"
_WIKI = b'<doc id="1" url="u" title="t">\nRiver\n\nIt &lt;runs&gt;.\n</doc>\n<doc id="2">\nBread\n</doc>\n'


def _shards(folder: Path) -> tuple[Path, Seeds]:
    (folder / "vocab.txt").write_text("\n".join([*RESERVED, *WORDS]) + "\n")
    tokenizer = load_tokenizer(folder / "vocab.txt")
    rows = numbered(8, 8, 104)
    place = write_shards(folder / "shards", rows, rows[:2], vocab_size=tokenizer.get_vocab_size(), tokenizer=tokenizer)
    return place / "manifest.json", [(place / "manifest.json").read_bytes()]


def _open_shards(path: Path) -> None:
    shards = open_shards(path.parent)
    verify(shards)
    for name in ("train", "heldout"):
        rows = shards.split(name)
        rows.take(np.arange(min(len(rows), 4)))
    shards.tokenizer()


def _shard(folder: Path) -> tuple[Path, Seeds]:
    manifest, _ = _shards(folder)
    file = next(manifest.parent.glob("train-*.bin"))
    return file, [file.read_bytes()]


def _progress(folder: Path) -> tuple[Path, Seeds]:
    output = folder / "out"
    place = Staging(output)
    place.folder.mkdir(parents=True)
    request = Request(sources=("a",), weights=(1.0,), vocabulary="v", sequence_length=8, packing=Packing(), heldout=0.1)
    place.save(Progress(request=request, corpus="c"))
    (file,) = place.folder.glob("*.json")
    return file, [file.read_bytes()]


def _read_progress(path: Path) -> None:
    Staging(path.parent.parent).progress()


def _hdf5(folder: Path) -> tuple[Path, Seeds]:
    write_vocab(folder)
    path = write(folder / "train_0.hdf5", masked(originals(6)))
    return path, [path.read_bytes()]


def _open_hdf5(path: Path) -> None:
    corpus = open_corpus(path.parent, "none", lambda sentence: None)
    corpus.split("train").take(np.arange(3))
    corpus.verify(lambda size: None)


TARGETS = (
    Target("manifest.json", _shards, _open_shards),
    Target("shard", _shard, _open_shards),
    Target("progress.json", _progress, _read_progress),
    Target("text.txt", file_with("a.txt", _TEXT, _WIKI), _rows),
    Target("text wiki_00", file_with("wiki_00", _WIKI, JSONL), _rows),
    Target("text.jsonl", file_with("a.jsonl", JSONL), _rows),
    Target("text.csv", file_with("a.csv", CSV), _rows),
    Target("text.tsv", file_with("a.tsv", TSV), _rows),
    Target("text.parquet", file_with("a.parquet", PARQUET), _rows, (b"PAR1",)),
    Target("text.jsonl.gz", file_with("a.jsonl.gz", gzip.compress(JSONL)), _rows),
    Target("text.jsonl.bz2", file_with("a.jsonl.bz2", bz2.compress(JSONL)), _rows),
    Target("text.jsonl.xz", file_with("a.jsonl.xz", lzma.compress(JSONL)), _rows),
    Target("HDF5", _hdf5, _open_hdf5),
)
