"""The class of targets, and small files of some formats."""

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
    """A parser: `prepare(folder)` returns the path of a file and valid contents for it; `read(file)` calls the parser.

    `wrap` packs the corrupt bytes, so that the parser receives them in a container with a valid checksum.
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
