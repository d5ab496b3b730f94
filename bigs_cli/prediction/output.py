"""Answers as JSON lines, CSV or tables, and embeddings as .npy or Parquet: written as they come."""

from __future__ import annotations

import csv
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from rich.table import Table

from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import replacing, to_json
from bigs_cli.prediction.heads import Answerer
from bigs_cli.prediction.heads.answerer import NUMBERS
from bigs_cli.prediction.item import Item, record
from bigs_cli.reporting.console import out, table

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetWriter

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
        file.writelines(to_json(record(item, answer), default=str) + "\n" for item, answer in window)
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
    return made


def write_embeddings(made: Iterable[tuple[list[Item], Array]], path: Path) -> tuple[int, int]:
    """Write vectors to a .npy or .parquet file, whole or not at all; return their number and size `(n, H)`.

    Parquet has the texts, the `id` where items have one, and `embedding`, beside each other. Ids are whole numbers
    where all are, else text.

    Raises:
        RequestError: there are none.
    """
    made = _begun(made)
    with replacing(path, "w+b") as file:
        if path.suffix.lower() == ".npy":
            return _write_npy(made, file)
        return _write_parquet(made, file, path.parent)


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


def _write_parquet(made: Iterable[tuple[list[Item], Array]], file: IO[bytes], folder: Path) -> tuple[int, int]:
    """Write a row group a window.

    Where later ids need another type of column, the file is written again, from a temporary copy in `folder`.
    """
    from pyarrow import parquet

    writer: ParquetWriter | None = None
    count, size = 0, 0
    try:
        for items, vectors in made:
            group = _row_group(items, vectors)
            if writer is None:
                writer = parquet.ParquetWriter(file, group.schema)
            elif (wider := _wider(writer.schema, group.schema)) != writer.schema:
                writer.close()
                writer = _rewritten(file, wider, folder)
            writer.write_table(_fitted(group, writer.schema))
            count, size = count + len(items), vectors.shape[1]
    finally:
        if writer is not None:
            writer.close()
    return count, size


def _row_group(items: list[Item], vectors: Array) -> Any:
    """Return a table of texts, second texts if there are any, ids if there are any, and vectors."""
    import pyarrow as pa

    columns: dict[str, Any] = {"text": pa.array([item.text for item in items], pa.string())}
    if items[0].second is not None:
        columns["pair"] = pa.array([item.second for item in items], pa.string())
    if any(ID in item.columns for item in items):
        columns[ID] = _ids(items)
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    return pa.table({**columns, "embedding": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})


def _ids(items: list[Item]) -> Any:
    """Return ids as whole numbers where all are some that 64 bits hold, else as text."""
    import pyarrow as pa

    values = [item.columns.get(ID) for item in items]
    if all(value is None or (type(value) is int and -(2**63) <= value < 2**63) for value in values):
        return pa.array(values, pa.int64())
    # A half of a surrogate pair, which JSON can hold, has no UTF-8: it is written as the escape it came as.
    texts = [None if value is None else str(value).encode("utf-8", "backslashreplace").decode() for value in values]
    return pa.array(texts, pa.string())


def _wider(schema: Any, other: Any) -> Any:
    """Return `schema` with a column of ids that also holds those of `other`."""
    if ID not in other.names:
        return schema
    place = schema.get_field_index(ID)
    if place < 0:
        return schema.insert(len(schema) - 1, other.field(ID))
    return schema if other.field(ID).type == "int64" else schema.set(place, other.field(ID))


def _fitted(group: Any, schema: Any) -> Any:
    """Return a table in the columns of `schema`; a column it lacks is null."""
    import pyarrow as pa

    columns = [
        group[field.name].cast(field.type) if field.name in group.column_names else pa.nulls(len(group), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _rewritten(file: IO[bytes], schema: Any, folder: Path) -> ParquetWriter:
    """Write what is in `file` again, in the columns of `schema`, and return the writer to go on with."""
    from pyarrow import parquet

    with tempfile.TemporaryFile(dir=folder) as before:
        file.seek(0)
        shutil.copyfileobj(file, before)
        file.seek(0)
        file.truncate()
        writer = parquet.ParquetWriter(file, schema)
        with parquet.ParquetFile(before, pre_buffer=False) as written:
            for group in range(written.num_row_groups):
                writer.write_table(_fitted(written.read_row_group(group, use_threads=False), schema))
    return writer


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            made |= {f"{name}.{key}": _cell(one) for key, one in value.items()}
        else:
            made[name] = _cell(value)
    return made


def _cell(value: Any) -> Any:
    return to_json(value, default=str) if isinstance(value, list | dict | bool) else value
