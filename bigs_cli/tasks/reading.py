"""The reader of labelled tables: reads files, folders saved by `datasets`, and the hub as a `Table`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigs_cli.core.error_messages import translate_error
from bigs_cli.core.errors import RequestError, check_unicode, did_you_mean
from bigs_cli.core.files import parse_json
from bigs_cli.core.paths import plain_path
from bigs_cli.data.delimited import RaggedRow, unique_names
from bigs_cli.data.documents import BadRecord
from bigs_cli.data.files import TextFile
from bigs_cli.data.hub import datasets_reason
from bigs_cli.data.rows import Row, file_rows, find_file, open_parquet

if TYPE_CHECKING:
    from datasets import Dataset

_ABSENT = object()
"""The cell of a row that lacks a column."""


@dataclass(frozen=True)
class Table:
    """A table with at least one row, read by column.

    `names` are the columns, `values` returns the cells of one. `places` are the locations of the rows, for messages.
    `ids` are the row numbers in the source, counted from 0.
    """

    name: str
    names: Sequence[str]
    values: Callable[[str], list[Any]]
    places: Sequence[str]
    ids: Sequence[int]

    def require(self, names: Iterable[str], purpose: str = "") -> None:
        """Check that the table has columns; `purpose` is a clause that names their use.

        Raises:
            RequestError: one is missing.
        """
        missing = [name for name in names if name not in self.names]
        if missing:
            quoted = ", ".join(f"'{name}'" for name in missing)
            raise RequestError(
                f"{self.name} has no column {quoted}{purpose}.{did_you_mean(missing[0], self.names)} "
                f"Its columns: {', '.join(self.names) or 'none'}."
            )

    def column(self, name: str) -> list[Any]:
        """Return the cells of a column. Class ids of `datasets` are replaced by the names of the classes.

        Raises:
            RequestError: there is no such column, a row lacks it, or a text in it is not valid Unicode.
        """
        self.require([name])
        try:
            values = self.values(name)
        except UnicodeDecodeError as error:
            raise RequestError(
                f"{self.name} contains text that is not UTF-8 ({error.reason}). Write the file again."
            ) from error
        for value, place in zip(values, self.places, strict=True):
            if value is _ABSENT:
                raise RequestError(f"{place} has no column '{name}', unlike the rows before it.")
            if isinstance(value, str) and not value.isascii():
                check_unicode(value, place)
        return values

    def texts(self, name: str) -> list[str]:
        """Return the cells of a column of text.

        Raises:
            RequestError: as `column`, or a cell is not text.
        """
        values = self.column(name)
        for value, place in zip(values, self.places, strict=True):
            if not isinstance(value, str):
                raise not_text_error(value, name, place)
        return values

    def first_rows(self, limit: int | None) -> Table:
        """Return the first `limit` rows; None: all."""
        places, ids = self.places[:limit], self.ids[:limit]
        return replace(self, values=lambda name: self.values(name)[:limit], places=places, ids=ids)


def not_text_error(value: Any, column: str, place: str) -> RequestError:
    """Return the error for a cell that should be a text, or a list of words."""
    return RequestError(f"{place}: column '{column}' contains {json.dumps(value, default=str)}, which is not text.")


def read_table(path: Path, columns: Sequence[str] = (), broken_rows: int = 0) -> Table:
    """Read a CSV, TSV, JSONL or Parquet file, or the lines of a .txt file as the column `text`.

    `columns` names the columns of a tab-separated file without a header line. Up to `broken_rows` rows with a different
    number of cells than the first are left out.

    Raises:
        RequestError: the file does not exist, has an unknown format or is empty, or a row cannot be read.
    """
    file = find_file(path)
    if file.suffix == ".parquet":
        return read_parquet_files([file])
    return table_of(str(path), file_rows(file, columns), broken_rows)


def table_of(name: str, rows: Iterable[tuple[str, Row | BadRecord]], broken_rows: int = 0) -> Table:
    """Return the table of (place, row) pairs, with the columns of the first row; see `read_table`."""
    columns: dict[str, list[Any]] = {}
    places: list[str] = []
    ids: list[int] = []
    broken: list[str] = []
    for i, (place, row) in enumerate(rows):
        if isinstance(row, BadRecord):
            broken.append(row.message)
            if not isinstance(row, RaggedRow):
                raise RequestError(row.message)
            if len(broken) > broken_rows:
                raise RequestError(broken[0])
            continue
        if not ids:
            columns = {column: [] for column in row}
        for column, values in columns.items():
            values.append(row.get(column, _ABSENT))
        places.append(place)
        ids.append(i)
    if not ids:
        raise RequestError(f"{name} contains no rows. Check the file, or download it again.")
    return Table(name, list(columns), columns.__getitem__, places, ids)


def read_parquet_files(files: Sequence[TextFile]) -> Table:
    """Read the files of a data set in Parquet, in order.

    Raises:
        RequestError: a file is corrupt, or has different columns from the first, or there are no rows.
    """
    import datasets
    import pyarrow
    from datasets.table import InMemoryTable

    parts: list[pyarrow.Table] = []
    for file in files:
        with open_parquet(file) as part:
            table = part.read(use_threads=False)
            names = unique_names(table.column_names)
            # Renaming would drop the metadata, in which `datasets` stores class names.
            parts.append(table if names == table.column_names else table.rename_columns(names))
    name = files[0].name
    with _translated(name):
        # `Dataset.from_parquet` would leave a copy in the user's cache. Without a fingerprint, the table would be
        # hashed.
        dataset = datasets.Dataset(InMemoryTable(pyarrow.concat_tables(parts)), fingerprint="parquet")
    return dataset_table(dataset, name)


def read_saved(folder: Path) -> Table:
    """Read a data set that `datasets` saved to a folder.

    Raises:
        RequestError: it is corrupt or empty, or its files are outside the folder.
    """
    import datasets

    with _translated(str(folder)):
        _check_parts(folder)
        with plain_path(folder) as plain:
            dataset = datasets.load_from_disk(str(plain)).with_format(
                None
            )  # all columns, regardless of the saved selection
    assert isinstance(dataset, datasets.Dataset)
    return dataset_table(dataset, str(folder))


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    """Convert exceptions of `datasets` for corrupt data to a RequestError; an invalid state.json can raise any
    exception.
    """
    try:
        yield
    except RequestError:
        raise
    except MemoryError as error:
        raise translate_error(error) or error from error
    except Exception as error:
        raise RequestError(
            f"{name} cannot be read as a data set ({datasets_reason(error)}). Save or download it again."
        ) from error


def _check_parts(folder: Path) -> None:
    """Check that all files of a saved data set are in its folder; files elsewhere are not read.

    Raises:
        RequestError, OSError, ValueError: a file is elsewhere, or the list of files is missing or invalid.
    """
    state = parse_json((folder / "state.json").read_bytes())
    parts = state.get("_data_files") if isinstance(state, dict) else None
    names = [part.get("filename") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise RequestError(f"{folder / 'state.json'} names {json.dumps(name)}, which is not a file of its folder.")


def dataset_table(dataset: Dataset, name: str) -> Table:
    """Return a data set as a table called `name`, with classes by name; columns are read lazily.

    Raises:
        RequestError: there are no rows.
    """
    if not len(dataset):
        raise RequestError(f"{name} contains no rows. Check the file, or download it again.")

    def values(column: str) -> list[Any]:
        feature: Any = dataset.features[column]
        classes = getattr(getattr(feature, "feature", feature), "names", None)  # of the column, or of lists in it
        cells = dataset.select_columns([column])[:][column]
        return cells if classes is None else [_named(classes, cell) for cell in cells]

    ids = range(len(dataset))
    return Table(name, dataset.column_names, values, [f"{name}, row {i + 1}" for i in ids], ids)


def _named(classes: Sequence[str], cell: Any) -> Any:
    """Return the name of a class id, also within a list; return any other value unchanged."""
    if isinstance(cell, list):
        return [_named(classes, one) for one in cell]
    return classes[cell] if isinstance(cell, int) and 0 <= cell < len(classes) else cell
