"""Read the inputs of `bigs predict` from files, lazily: one text per line, or rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from bigs_cli.core.errors import RequestError
from bigs_cli.data.lines import read_lines
from bigs_cli.data.rows import file_rows, find_file, raise_on_bad
from bigs_cli.prediction.items import Columns, InputOptions, find_columns, item_of
from bigs_cli.tasks.items import InputFormat, Item
from bigs_cli.tasks.task import Task


def items_in(
    path: Path,
    takes: InputFormat,
    task: Task | None,
    options: InputOptions,
    blank: Callable[[int], None] = lambda n: None,
) -> Iterator[Item]:
    """Yield the items in the lines of a .txt file or the rows of a CSV, TSV, JSONL or Parquet file.

    Files may be compressed. `blank` is called at the end with the number of blank lines, which are skipped.

    Raises:
        RequestError: the file does not exist, has another format, is empty, or lacks inputs that the model `takes`.
    """
    file = find_file(path)
    text = file.suffix == ".txt"
    lines = _texts(raise_on_bad(file.lines()), file.name, blank)
    rows = ((place, {"text": line}) for place, line in lines) if text else raise_on_bad(file_rows(file))
    columns: Columns | None = None
    for place, row in rows:
        if columns is None:
            columns = find_columns(row, takes, str(path), task, options)
        yield item_of(row, columns, place)
    if columns is None:
        raise RequestError(f"{path} contains no {'text' if text else 'rows'}.")


def texts_in(file: BinaryIO, name: str, blank: Callable[[int], None] = lambda n: None) -> Iterator[tuple[str, str]]:
    """Yield (place, text) for each nonblank line of an open file, as soon as it can be read.

    Raises:
        RequestError: a line is not UTF-8.
    """
    return _texts(raise_on_bad(read_lines(file, name)), name, blank)


def _texts(lines: Iterable[tuple[int, str]], name: str, blank: Callable[[int], None]) -> Iterator[tuple[str, str]]:
    skipped = 0
    for number, line in lines:
        text = line.rstrip("\r\n")
        if text.strip():
            yield f"{name}:{number}", text
        else:
            skipped += 1
    if skipped:
        blank(skipped)
