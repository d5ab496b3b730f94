"""Write embeddings to .npy or Parquet, one window at a time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from bigs_cli.core.files import atomic_write, to_json
from bigs_cli.prediction.items import record
from bigs_cli.prediction.output import require_window
from bigs_cli.tasks.items import Item

if TYPE_CHECKING:
    import pyarrow as pa

Array = np.ndarray[Any, Any]
Embedded = Iterable[tuple[list[Item], Array]]
EMBEDDING = "embedding"


def write_embeddings(windows: Embedded, path: Path) -> tuple[int, int]:
    """Atomically write vectors to a .npy or .parquet file; return their number and size `(n, H)`.

    A Parquet file has all input columns and, as the last one, `embedding`. Texts that do not come from columns are in
    `text` and `pair`. The type of a column is the narrowest that holds all its values: booleans, integers, floats or
    text.

    Raises:
        RequestError: there are no texts.
    """
    windows = require_window(windows)
    with atomic_write(path) as file:
        return _WRITERS[path.suffix.lower()](windows, file)


def _write_npy(windows: Embedded, file: IO[bytes]) -> tuple[int, int]:
    """Write the vectors after a header that is rewritten, at the same size, once their number is known."""

    def header(shape: tuple[int, int]) -> int:
        file.seek(0)
        description = {"shape": shape, "fortran_order": False, "descr": np.lib.format.dtype_to_descr(np.dtype("<f4"))}
        np.lib.format.write_array_header_1_0(file, description)
        return file.tell()

    count, size, start = 0, 0, 0
    for _, vectors in windows:
        if not count:
            size = vectors.shape[1]
            start = header((0, size))
        file.write(np.ascontiguousarray(vectors, "<f4").tobytes())
        count += len(vectors)
    if count and header((count, size)) != start:
        raise AssertionError("the header of numpy has no space for the number of rows")
    return count, size


def _write_parquet(windows: Embedded, file: IO[bytes]) -> tuple[int, int]:
    """Write one row group per window; rewrite the file if a later window needs wider column types."""
    import pyarrow as pa
    from pyarrow import parquet

    writer: parquet.ParquetWriter | None = None
    large: set[str] = set()
    count, size = 0, 0
    try:
        for items, vectors in windows:
            batch = _table(items, vectors)
            integers = (field.name for field in batch.schema if pa.types.is_integer(field.type))
            large |= {name for name in integers if _has_large_integers(batch[name].to_pylist())}
            schema = batch.schema if writer is None else _common_schema(writer.schema, batch.schema, large)
            if writer is not None and schema != writer.schema:
                writer.close()
                writer = _rewrite(file, schema)
            writer = writer or parquet.ParquetWriter(file, schema)
            writer.write_table(_cast(batch, schema))
            count, size = count + len(items), vectors.shape[1]
    finally:
        if writer is not None:
            writer.close()
    return count, size


def _table(items: list[Item], vectors: Array) -> pa.Table:
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    embeddings = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    rows = [record(_columns(item).items(), {EMBEDDING: None}) for item in items]
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name != EMBEDDING]
    arrays = [_array([row.get(name) for row in rows]) for name in names]
    return pa.table([*arrays, embeddings], names=[*names, EMBEDDING])


def _columns(item: Item) -> dict[str, Any]:
    texts = {"text": item.text} | ({} if item.text_b is None else {"pair": item.text_b})
    return texts | dict(item.columns)


def _array(values: list[Any]) -> pa.Array[Any]:
    import pyarrow as pa

    types = {type(value) for value in values if value is not None}
    if not types:
        return pa.nulls(len(values))
    if types == {bool}:
        return pa.array(values, pa.bool_())
    if types == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pa.array(values, pa.int64())
    if types <= {int, float} and not _has_large_integers(values):
        return pa.array(values, pa.float64())
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _has_large_integers(values: list[Any]) -> bool:
    """Return whether an integer is too large to be converted to a float exactly: floats have 53 bits."""
    return any(isinstance(value, int) and abs(value) > 2**53 for value in values)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else to_json(value, default=str)
    return text.encode("utf-8", "backslashreplace").decode()  # JSON can contain half of a surrogate pair


def _common_schema(first: pa.Schema, second: pa.Schema, large: set[str]) -> pa.Schema:
    """Return the columns of both schemas. A column that has integers in one and floats in the other becomes floats.

    It becomes text if its name is in `large`, or if it has any other two types.
    """
    import pyarrow as pa

    types: dict[str, pa.DataType] = {}
    for field in [*first, *second]:
        known = types.get(field.name, pa.null())
        if pa.types.is_null(known) or pa.types.is_null(field.type):
            types[field.name] = field.type if pa.types.is_null(known) else known
        elif known != field.type:
            numbers = {known, field.type} == {pa.int64(), pa.float64()} and field.name not in large
            types[field.name] = pa.float64() if numbers else pa.string()
    vectors = types.pop(EMBEDDING)
    return pa.schema([*types.items(), (EMBEDDING, vectors)])


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _rewrite(file: IO[bytes], schema: pa.Schema) -> Any:
    """Rewrite `file`, a complete Parquet file, with `schema`; return the writer, which is open for more."""
    import pyarrow as pa
    from pyarrow import parquet

    file.flush()
    with tempfile.TemporaryFile() as before:
        with os.fdopen(os.dup(file.fileno()), "rb") as written:  # The file is open for writing only.
            written.seek(0)
            shutil.copyfileobj(written, before)
        file.seek(0)
        file.truncate()
        writer = parquet.ParquetWriter(file, schema)
        with parquet.ParquetFile(before, pre_buffer=False) as old:
            for batch in old.iter_batches(use_threads=False):
                writer.write_table(_cast(pa.Table.from_batches([batch]), schema))
    return writer


_WRITERS: dict[str, Callable[[Embedded, IO[bytes]], tuple[int, int]]] = {
    ".npy": _write_npy,
    ".parquet": _write_parquet,
}
