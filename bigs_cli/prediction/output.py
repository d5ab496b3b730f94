"""Answers as JSON lines, CSV or tables, and embeddings as .npy or Parquet: written as they come."""

from __future__ import annotations

import csv
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import numpy as np
from rich.table import Table

from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import replacing
from bigs_cli.prediction.heads import Answerer
from bigs_cli.prediction.heads.answerer import NUMBERS
from bigs_cli.prediction.item import Item, record
from bigs_cli.reporting.console import out, table

Array = np.ndarray[Any, Any]
Format = Literal["table", "jsonl", "csv"]
Answered = list[tuple[Item, dict[str, Any]]]
ID = "id"
_Window = TypeVar("_Window")


def write_answers(answered: Iterable[Answered], answerer: Answerer, form: Format, path: Path | None) -> None:
    """Write answers to the file at `path`, whole or not at all, or to stdout as they come.

    Raises:
        RequestError: there are none.
    """
    answered = _begun(answered)
    if path is not None:
        with replacing(path, "w") as file:
            _WRITE[form](answered, answerer, file)
        return
    try:
        _WRITE[form](answered, answerer, sys.stdout)
    except BrokenPipeError:  # The reader, such as `head`, has enough. Python's own flush at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _begun(windows: Iterable[_Window]) -> Iterator[_Window]:
    """Return all windows, the first of which is there: before it is, nothing is written, nor a folder made."""
    rest = iter(windows)
    first = next(rest, None)
    if first is None:
        raise RequestError("There is no text: nothing was given, or only blank lines.")
    return itertools.chain([first], rest)


def write_table(answered: Iterable[Answered], answerer: Answerer, file: IO[str]) -> None:
    """Write a table for each window of answers."""
    for window in answered:
        with out.capture() as made:
            out.print(answer_table(window, answerer))
        file.write(made.get())
        file.flush()


def write_jsonl(answered: Iterable[Answered], answerer: Answerer, file: IO[str]) -> None:
    """Write each answer as a JSON object on a line."""
    for window in answered:
        file.writelines(
            json.dumps(record(item, answer), ensure_ascii=False, default=str) + "\n" for item, answer in window
        )
        file.flush()


def write_csv(answered: Iterable[Answered], answerer: Answerer, file: IO[str]) -> None:
    """Write answers as CSV: the keys of an object become columns `scores.negative`, lists are JSON in a cell.

    Raises:
        RequestError: an item has columns that the first one has not.
    """
    writer: csv.DictWriter[str] | None = None
    for window in answered:
        for item, answer in window:
            row = _flat(record(item, answer))
            if writer is None:
                writer = csv.DictWriter(file, list(row), restval="")
                writer.writeheader()
            if row.keys() - set(writer.fieldnames):
                further = ", ".join(sorted(row.keys() - set(writer.fieldnames)))
                raise RequestError(f"{item.place} has columns that the first lacks ({further}): take --format jsonl.")
            writer.writerow(row)
        file.flush()


_WRITE: dict[Format, Callable[[Iterable[Answered], Answerer, IO[str]], None]] = {
    "table": write_table,
    "jsonl": write_jsonl,
    "csv": write_csv,
}


def answer_table(answered: Answered, answerer: Answerer) -> Table:
    """Return answers as a person reads them."""
    right = tuple(name for name in answerer.headers if name in NUMBERS)
    made = table("", *answerer.headers, right=right)
    made.title = None
    for item, answer in answered:
        for row in answerer.table_rows(item, answer):
            made.add_row(*row)
    for column in made.columns:
        # The lines of one cell belong to those of the next.
        column.no_wrap = any("\n" in str(cell) for cell in column.cells)
    return made


def write_embeddings(made: Iterable[tuple[list[Item], Array]], path: Path) -> tuple[int, int]:
    """Write vectors to a .npy or .parquet file, whole or not at all; return their number and size `(n, H)`.

    Parquet has the texts, the `id` where items have one, and `embedding`, beside each other.

    Raises:
        RequestError: there are none.
    """
    made = _begun(made)
    with replacing(path) as file:
        return _WRITERS[path.suffix.lower()](made, file)


def _write_npy(made: Iterable[tuple[list[Item], Array]], file: IO[bytes]) -> tuple[int, int]:
    """Write the vectors behind a header that is written again once their number is known: it has room for that."""

    def header(shape: tuple[int, int]) -> int:
        file.seek(0)
        described = {"shape": shape, "fortran_order": False, "descr": np.lib.format.dtype_to_descr(np.dtype("<f4"))}
        np.lib.format.write_array_header_1_0(file, described)
        return file.tell()

    count, size, start = 0, 0, 0
    for _, vectors in made:
        if not count:
            size = vectors.shape[1]
            start = header((0, size))
        file.write(np.ascontiguousarray(vectors, "<f4").tobytes())
        count += len(vectors)
    if count and header((count, size)) != start:
        raise AssertionError("numpy's header left no room for the number of rows")
    return count, size


def _write_parquet(made: Iterable[tuple[list[Item], Array]], file: IO[bytes]) -> tuple[int, int]:
    import pyarrow as pa
    from pyarrow import parquet

    writer: parquet.ParquetWriter | None = None
    names: list[str] = []
    count, size = 0, 0
    try:
        for items, vectors in made:
            columns: dict[str, Any] = {"text": [item.text for item in items], "pair": [item.second for item in items]}
            if not names:
                names = ["text", *(["pair"] if items[0].second is not None else [])]
                names += [ID] if ID in items[0].columns else []
            size = vectors.shape[1]
            flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
            arrays = [pa.array(columns[name], pa.string()) for name in names if name != ID]
            if ID in names:
                arrays.append(_ids(items))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, size))
            batch = pa.table(dict(zip([*names, "embedding"], arrays, strict=True)))
            writer = writer or parquet.ParquetWriter(file, batch.schema)
            writer.write_table(batch.cast(writer.schema))
            count += len(items)
    finally:
        if writer is not None:
            writer.close()
    return count, size


_WRITERS: dict[str, Callable[[Iterable[tuple[list[Item], Array]], IO[bytes]], tuple[int, int]]] = {
    ".npy": _write_npy,
    ".parquet": _write_parquet,
}


def _ids(items: list[Item]) -> Any:
    """Return ids as whole numbers where they are, else as text."""
    import pyarrow as pa

    values = [item.columns.get(ID) for item in items]
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    return pa.array(values if whole else [None if value is None else str(value) for value in values])


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            made |= {f"{name}.{key}": _cell(one) for key, one in value.items()}
        else:
            made[name] = _cell(value)
    return made


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict | bool) else value
