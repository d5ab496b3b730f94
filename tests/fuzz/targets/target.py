"""What a target is, and small files of some formats."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet as pq

Seeds = Sequence[bytes]


@dataclass(frozen=True)
class Target:
    """A parser: `prepare(folder)` returns the file to spoil and good contents of it; `read(file)` is what is tried.

    `wrap` packs the spoilt bytes, so that a checksum does not keep them from the parser.
    """

    name: str
    prepare: Callable[[Path], tuple[Path, Seeds]]
    read: Callable[[Path], object]
    tokens: Seeds = ()
    wrap: Callable[[bytes], bytes] = bytes


def file_with(name: str, *seeds: bytes) -> Callable[[Path], tuple[Path, Seeds]]:
    return lambda folder: (folder / name, seeds)


def parquet(**columns: list[Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, compression="none")
    return file.getvalue()


JSONL = b'{"text": "The river runs.", "id": 1}\n{"text": "Bread needs flour.", "id": 2}\n'
CSV = b'id,text\n1,"The river, ""old"", runs."\n2,Bread needs flour.\n'
TSV = b"id\ttext\n1\tThe river runs.\n2\tBread needs flour.\n"
PARQUET = parquet(id=[1, 2], text=["The river runs.", "Bread needs flour."])
