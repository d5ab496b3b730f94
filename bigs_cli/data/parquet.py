"""Parquet as a text source: one document a row of the text column; row groups left out are never read."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from bigs_cli.core.errors import BigsError
from bigs_cli.data.documents import BadRecord, Documents, find_text_column, text_of
from bigs_cli.data.files import TextFile

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 256

# Bytes read at a time. Left to itself, pyarrow holds the text of a whole row group at once, and a file may be but one.
_BUFFER = 1 << 20

# A packed Parquet file grows no more than so many times: what it holds is packed already. Chosen here.
_MOST_PACKED = 100
_SMALL = 1 << 26  # bytes that any may have


def count_rows(file: TextFile) -> int:
    """Return how many records `read_parquet` yields of `file`, from its footer.

    Raises:
        BigsError: the place it lies in broke off.
    """
    from pyarrow import parquet

    try:
        with seekable(file) as raw, parquet.ParquetFile(raw) as table:
            return table.metadata.num_rows
    except Exception as error:  # Each system that files lie in has errors of its own.
        damage_of(file, error)
        return 1


def read_parquet(file: TextFile, text_column: str | None, skip: int = 0) -> Documents:
    """Yield the text of each row but the first `skip`, or what is wrong with it.

    A damaged row group is as many bad records as it has unread rows, a file without a footer is one; so
    a record has the same number whichever are left out.

    Raises:
        RequestError: there is no such column.
        BigsError: the place it lies in broke off.
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
                except Exception as error:  # Each system that files lie in has errors of its own.
                    damage = damage_of(file, error)
                    for lost in range(max(row, skip) + 1, end + 1):
                        yield BadRecord(f"{file.name}, row {lost}: {damage}.")
                row = end
    except Exception as error:  # Each system that files lie in has errors of its own.
        damage = damage_of(file, error)
        if not skip:
            yield BadRecord(f"{file.name}: {damage}.")


@contextlib.contextmanager
def seekable(file: TextFile) -> Iterator[BinaryIO]:
    """Open a file so that any place of it can be read: decompressed into a temporary one, if it is compressed.

    Raises:
        pyarrow.ArrowInvalid: it is decompressed to more than a Parquet file, which is packed by itself, can be.
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

                raise pa.ArrowInvalid(f"unpacked, it has more than {_MOST_PACKED} times its size")
        whole.seek(0)
        yield cast(BinaryIO, whole)


def _text(cell: pa.Scalar[Any], column: str, where: str) -> str | BadRecord:
    try:
        return text_of(cell.as_py(), column, where)
    except UnicodeDecodeError as error:
        return BadRecord(f"{where} is not UTF-8 ({error.reason}).")


def damage_of(file: TextFile, error: Exception) -> str:
    """Return what is wrong with a file by what reading it raised: no whole sentence.

    Raises:
        BigsError: the place it lies in broke off.
    """
    import pyarrow as pa

    if isinstance(error, BigsError):
        raise error
    # Of some damage pyarrow tells with a bare OSError.
    if isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None):
        return f"the file is damaged ({str(error).splitlines()[0]})"
    return file.read_error(error).message.removesuffix(".")


def _textual(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
