"""The rows of a table in a file: CSV, TSV, JSONL, Parquet or lines of text, compressed or not, read lazily.

Each row is a dict of its cells by column. A row that cannot be read is a `BadRecord`, whose message names the location.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bigs_cli.core.error_messages import translate_error
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import parse_json
from bigs_cli.data.delimited import read_cells, unique_names
from bigs_cli.data.documents import TEXT_COLUMN, BadRecord
from bigs_cli.data.files import TextFile, find_files
from bigs_cli.data.parquet import parquet_error, seekable

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

Row = dict[str, Any]
Rows = Iterator[tuple[str, Row | BadRecord]]
"""(place, row); error messages begin with the place."""

Read = TypeVar("Read")
Where = TypeVar("Where")

_PARQUET_ROWS = 1024  # number of rows in memory at a time


def find_file(path: Path) -> TextFile:
    """Return the file at a path.

    Raises:
        RequestError: there is none.
    """
    found = None if path.is_dir() else find_files(str(path))
    if not found:
        raise RequestError(f"There is no file {path}. Check its name and folder.")
    return found[0]


def file_rows(file: TextFile, columns: Sequence[str] = ()) -> Rows:
    """Return an iterator over the rows of a file.

    `columns` names the columns of a tab-separated file without a header line.

    Raises:
        RequestError: the format of the file is unknown.
        BigsError: during iteration: reading failed for a reason other than the content of the file.
    """
    if columns:
        return delimited_rows(file, columns)
    reader = READERS.get(file.suffix)
    if reader is None:
        raise RequestError(
            f"{file.name} has an unknown format. Supported formats of tables: {', '.join(READERS)}, also compressed "
            "(.gz)."
        )
    return reader(file)


def raise_on_bad(records: Iterable[tuple[Where, Read | BadRecord]]) -> Iterator[tuple[Where, Read]]:
    """Yield numbered lines or rows unchanged.

    Raises:
        RequestError: a line or row cannot be read.
    """
    for where, record in records:
        if isinstance(record, BadRecord):
            raise RequestError(record.message)
        yield where, record


def delimited_rows(file: TextFile, columns: Sequence[str] = ()) -> Rows:
    """Yield the rows of a CSV or TSV file. The first row names the columns, unless `columns` does."""
    names = list(columns)
    for number, cells in read_cells(file, "\t" if columns else None):
        place = f"{file.name}:{number}"
        if isinstance(cells, BadRecord):
            yield place, cells
        elif not names:
            names = unique_names(cells)
        elif len(cells) != len(names):  # Only with `columns`; otherwise every row has the length of the first.
            what = f"{place} has {len(cells)} cells separated by tabs; the columns are {', '.join(names)}."
            yield place, BadRecord(f"{what} Name the columns of the file: --columns NAME,NAME,…")
        else:
            yield place, dict(zip(names, cells, strict=True))


def json_rows(lines: Iterable[tuple[int, str | BadRecord]], name: str, unique_keys: bool = False) -> Rows:
    """Yield the objects in numbered lines of the file `name`, one per line; blank lines are skipped.

    With `unique_keys`, an object that has a key twice is a bad record.
    """
    for number, line in lines:
        place = f"{name}:{number}"
        if isinstance(line, BadRecord):
            yield place, line
            continue
        if not line or line.isspace():
            continue
        hint = " Convert an array to lines with: jq -c '.[]'" if line.lstrip().startswith("[") else ""
        try:
            row = parse_json(line, unique_keys)
        except ValueError as error:
            yield place, BadRecord(f"{place} is not JSON ({error}). Each line must be an object.{hint}")
            continue
        if not isinstance(row, dict):
            row = BadRecord(f'{place} is not a JSON object, such as {{"{TEXT_COLUMN}": "…"}}.{hint}')
        yield place, row


def parquet_rows(file: TextFile) -> Rows:
    """Yield the rows of a Parquet file.

    Raises:
        RequestError: the file is corrupt.
    """
    number = 1
    with open_parquet(file) as table:
        names = unique_names(table.schema_arrow.names)
        # Without threads of pyarrow, which can abort a process that ends soon afterwards.
        for batch in table.iter_batches(_PARQUET_ROWS, use_threads=False):
            for row in batch.rename_columns(names).to_pylist():
                yield f"{file.name}, row {number}", row
                number += 1


@contextlib.contextmanager
def open_parquet(file: TextFile) -> Iterator[ParquetFile]:
    """Open a Parquet file.

    Raises:
        RequestError: the file, or a part that is read later, is corrupt.
    """
    from pyarrow import parquet

    try:
        with seekable(file) as raw, parquet.ParquetFile(raw, pre_buffer=False) as table:
            yield table
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{file.name} contains text that is not UTF-8 ({error.reason}). Write the file again."
        ) from error
    except MemoryError as error:
        raise translate_error(error) or error from error
    except Exception as error:  # Each file system has its own exceptions.
        raise RequestError(f"{file.name} cannot be read as Parquet: {parquet_error(file, error)}.") from error


def _jsonl_rows(file: TextFile) -> Rows:
    return json_rows(file.lines(), file.name, unique_keys=True)


def _text_rows(file: TextFile) -> Rows:
    """Yield a row with the only column `text` for each line; blank lines are skipped."""
    for number, line in file.lines():
        if isinstance(line, BadRecord):
            yield f"{file.name}:{number}", line
        elif text := line.strip():
            yield f"{file.name}:{number}", {TEXT_COLUMN: text}


READERS = {
    ".csv": delimited_rows,
    ".tsv": delimited_rows,
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".json": _jsonl_rows,
    ".parquet": parquet_rows,
    ".txt": _text_rows,
}
