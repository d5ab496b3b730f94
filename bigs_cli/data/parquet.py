"""Parquet as a text source: one document per row of the text column; skipped row groups are not read."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from bigs_cli.core.errors import BigsError, first_line
from bigs_cli.data.documents import BadRecord, Documents, find_text_column, text_of
from bigs_cli.data.files import TextFile

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 256

# Bytes read at a time. By default, pyarrow reads a whole row group at once, which may be the whole file.
_BUFFER = 1 << 20

# Maximum ratio of decompressed to compressed size; the content of Parquet is already compressed. Chosen by this
# project.
_MOST_PACKED = 100
_SMALL = 1 << 26  # bytes, allowed for any file


def count_rows(file: TextFile) -> int:
    """Return the number of records that `read_parquet` yields for `file`, from its footer.

    Raises:
        BigsError: the connection to the file was lost.
    """
    from pyarrow import parquet

    try:
        with seekable(file) as raw, parquet.ParquetFile(raw) as table:
            return table.metadata.num_rows
    except Exception as error:  # Each file system has its own exceptions.
        parquet_error(file, error)
        return 1


def read_parquet(file: TextFile, text_column: str | None, skip: int = 0) -> Documents:
    """Yield the text of each row after the first `skip`, or a bad record.

    A corrupt row group yields one bad record per unread row, and a file without a footer yields one, so record numbers
    do not depend on `skip`.

    Raises:
        RequestError: there is no such column.
        BigsError: the connection to the file was lost.
    """
    from pyarrow import parquet

    try:
        with seekable(file) as raw, parquet.ParquetFile(raw, pre_buffer=False, buffer_size=_BUFFER) as table:
            schema = table.schema_arrow
            found = find_text_column(
                schema.names, [field.name for field in schema if _textual(field.type)], text_column, file.name
            )
            row = 0
            for group in range(table.num_row_groups):
                end = row + table.metadata.row_group(group).num_rows
                if end <= skip:
                    row = end
                    continue
                try:
                    for batch in table.iter_batches(_ROWS, row_groups=[group], columns=[found]):
                        for cell in batch.column(0):
                            row += 1
                            if row > skip:
                                yield _text(cell, found, f"{file.name}, row {row}")
                except Exception as error:  # Each file system has its own exceptions.
                    problem = parquet_error(file, error)
                    for lost in range(max(row, skip) + 1, end + 1):
                        yield BadRecord(f"{file.name}, row {lost}: {problem}.")
                row = end
    except Exception as error:  # Each file system has its own exceptions.
        problem = parquet_error(file, error)
        if not skip:
            yield BadRecord(f"{file.name}: {problem}.")


@contextlib.contextmanager
def seekable(file: TextFile) -> Iterator[BinaryIO]:
    """Open a file for random access. A compressed file is decompressed into a temporary file.

    Raises:
        pyarrow.ArrowInvalid: the decompressed file is too large for Parquet data.
    """
    if not file.compression:
        with file.open() as raw:
            yield raw
        return
    with file.open() as compressed, tempfile.TemporaryFile() as whole:
        most = max(_SMALL, _MOST_PACKED * file.size())
        while block := compressed.read(_BUFFER):
            whole.write(block)
            if whole.tell() > most:
                import pyarrow as pa

                raise pa.ArrowInvalid(f"decompressed, it is more than {_MOST_PACKED} times as large")
        whole.seek(0)
        yield cast(BinaryIO, whole)


def _text(cell: pa.Scalar[Any], column: str, where: str) -> str | BadRecord:
    try:
        return text_of(cell.as_py(), column, where)
    except UnicodeDecodeError as error:
        return BadRecord(f"{where} is not UTF-8 ({error.reason}).")


def parquet_error(file: TextFile, error: Exception) -> str:
    """Return a description, not a whole sentence, of the problem behind an exception raised while reading a file.

    Raises:
        BigsError: the connection to the file was lost.
    """
    import pyarrow as pa

    if isinstance(error, BigsError):
        raise error
    # pyarrow reports some corruption as a bare OSError.
    if isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None):
        return f"the file is corrupt ({first_line(error)})"
    return file.read_error(error).message.removesuffix(".")


def _textual(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
