"""Write predictions as JSON lines, CSV or tables, one window at a time."""

from __future__ import annotations

import csv
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from rich.table import Table

from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import atomic_write, to_json
from bigs_cli.prediction.items import record
from bigs_cli.reporting.console import out, table
from bigs_cli.tasks.items import Item
from bigs_cli.tasks.types.base import NUMBER_HEADERS, Pipeline

Format = Literal["table", "jsonl", "csv"]
Answers = list[tuple[Item, dict[str, Any]]]
Window = TypeVar("Window")


def write_answers(windows: Iterable[Answers], pipeline: Pipeline, form: Format, path: Path | None) -> None:
    """Atomically write answers to the file at `path`, or to stdout one window at a time.

    Raises:
        RequestError: there are no texts.
    """
    windows = require_window(windows)
    if path is not None:
        with atomic_write(path, "w") as file:
            _WRITERS[form](windows, pipeline, file)
        return
    try:
        _WRITERS[form](windows, pipeline, sys.stdout)
    except BrokenPipeError:  # The reader, such as `head`, has exited. Python's flush at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def require_window(windows: Iterable[Window]) -> Iterator[Window]:
    """Return an iterator over all windows. Reading the first one here avoids creating files for an empty input."""
    rest = iter(windows)
    first = next(rest, None)
    if first is None:
        raise RequestError("There is no text: the input is empty, or has only blank lines.")
    return itertools.chain([first], rest)


def write_table(windows: Iterable[Answers], pipeline: Pipeline, file: IO[str]) -> None:
    """Write one table per window of answers."""
    for window in windows:
        with out.capture() as captured:
            out.print(answer_table(window, pipeline))
        file.write(captured.get())
        file.flush()


def write_jsonl(windows: Iterable[Answers], pipeline: Pipeline, file: IO[str]) -> None:
    """Write one JSON object per line and answer."""
    for window in windows:
        file.writelines(to_json(record(item.columns.items(), answer), default=str) + "\n" for item, answer in window)
        file.flush()


def write_csv(windows: Iterable[Answers], pipeline: Pipeline, file: IO[str]) -> None:
    """Write answers as CSV: objects become columns such as `scores.negative`, lists become JSON in a cell.

    Raises:
        RequestError: an item has columns that the first item lacks.
    """
    writer: csv.DictWriter[str] | None = None
    for window in windows:
        for item, answer in window:
            row = record(_flat(item.columns), dict(_flat(answer)))
            if writer is None:
                writer = csv.DictWriter(file, list(row), restval="", lineterminator="\n")
                writer.writeheader()
            if row.keys() - set(writer.fieldnames):
                further = ", ".join(sorted(row.keys() - set(writer.fieldnames)))
                raise RequestError(
                    f"{item.place} has columns that the first item lacks ({further}). Use --format jsonl."
                )
            writer.writerow(row)
        file.flush()


_WRITERS: dict[Format, Callable[[Iterable[Answers], Pipeline, IO[str]], None]] = {
    "table": write_table,
    "jsonl": write_jsonl,
    "csv": write_csv,
}


def answer_table(answers: Answers, pipeline: Pipeline) -> Table:
    """Return a table of answers."""
    right = tuple(name for name in pipeline.headers if name in NUMBER_HEADERS)
    result = table("", *pipeline.headers, right=right)
    result.title = None
    for item, answer in answers:
        for row in pipeline.table_rows(item, answer):
            result.add_row(*row)
    for column in result.columns:
        # Do not wrap: the lines of a cell are aligned with those of the next cell.
        column.no_wrap = any("\n" in str(cell) for cell in column.cells)
    return result


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the CSV columns of `values`."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", _cell(part)) for key, part in value.items())
        else:
            yield name, _cell(value)


def _cell(value: Any) -> Any:
    return to_json(value, default=str) if isinstance(value, list | dict | bool) else value
