"""A table of any common kind, CSV, TSV, JSONL or Parquet, packed or not: its columns, and where each row lies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigs_cli.core.errors import RequestError, check_unicode, did_you_mean
from bigs_cli.data.delimited import read_cells, unique_names
from bigs_cli.data.files import TextFile, find_files
from bigs_cli.data.parquet import damage_of, seekable
from bigs_cli.tasks.jsonl import good, objects_of

_ROWS = 1024
"""Of Parquet, that are in memory at a time."""


@dataclass(frozen=True)
class Table:
    """Rows of a file: `cells[i]` maps column to value, `places[i]` is where row i lies, for an error's sentence."""

    name: str
    cells: list[dict[str, Any]]
    places: list[str]

    def column(self, name: str) -> list[Any]:
        """Return the values of a column.

        Raises:
            RequestError: the first row has no such column, a further one lacks it, or a text in it is not Unicode.
        """
        known = list(self.cells[0])
        if name not in known:
            raise RequestError(
                f"{self.name} has no column '{name}'.{did_you_mean(name, known)} Its columns: {', '.join(known)}."
            )
        for row, place in zip(self.cells, self.places, strict=True):
            if name not in row:
                raise RequestError(f"{place} has no column '{name}', which the rows before it have.")
            if isinstance(row[name], str):
                check_unicode(row[name], place)
        return [row[name] for row in self.cells]

    def texts(self, name: str) -> list[str]:
        """Return the values of a column of text.

        Raises:
            RequestError: there is none, or one of them is not text.
        """
        values = self.column(name)
        for value, place in zip(values, self.places, strict=True):
            if not isinstance(value, str):
                raise RequestError(
                    f"{place}: column '{name}' holds {json.dumps(value, default=str)}, which is no text."
                )
        return values


def read_table_file(path: Path) -> Table:
    """Read a CSV, TSV, JSONL or Parquet file.

    Raises:
        RequestError: it is not there, of another kind, empty, or has a line that is no row.
    """
    rows = list(read_rows(path))
    if not rows:
        raise RequestError(f"{path} holds no rows. Name a table that has some.")
    return Table(str(path), [row for _, row in rows], [place for place, _ in rows])


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return an iterator over (where it lies, row) of a CSV, TSV, JSONL or Parquet file, read as it goes on.

    Raises:
        RequestError: it is not there or of another kind: at once; it has a line that is no row: when that is reached.
    """
    found = None if path.is_dir() else find_files(str(path))
    if not found:
        raise RequestError(f"There is no file {path}. Check its name and folder.")
    reader = _READERS.get(found[0].suffix)
    if reader is None:
        raise RequestError(
            f"{path} is of no known kind. Tables are read from {', '.join(_READERS)}, also packed (.gz)."
        )
    return reader(found[0])


def _csv(file: TextFile) -> Iterator[tuple[str, dict[str, Any]]]:
    header: list[str] | None = None
    for number, row in good(read_cells(file)):
        if header is None:
            header = unique_names(row)
        else:
            yield f"{file.name}:{number}", dict(zip(header, row, strict=True))


def _parquet(file: TextFile) -> Iterator[tuple[str, dict[str, Any]]]:
    from pyarrow import parquet

    number = 1
    try:
        # Without threads of pyarrow's own, which a process that ends soon after was seen to be aborted by.
        with seekable(file) as raw, parquet.ParquetFile(raw, pre_buffer=False) as table:
            names = unique_names(table.schema_arrow.names)
            for batch in table.iter_batches(_ROWS, use_threads=False):
                for row in batch.rename_columns(names).to_pylist():
                    yield f"{file.name}, row {number}", row
                    number += 1
    except UnicodeDecodeError as error:
        raise RequestError(f"{file.name} holds text that is not UTF-8 ({error.reason}). Write it again.") from error
    except Exception as error:  # Each system that files lie in has errors of its own.
        raise RequestError(f"{file.name} cannot be read as Parquet: {damage_of(file, error)}.") from error


_READERS = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": objects_of,
    ".ndjson": objects_of,
    ".json": objects_of,
    ".parquet": _parquet,
}
