"""Reading one split of a task from a tab-separated file without quoting, as GLUE publishes them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.delimited import read_cells
from bigs_cli.data.files import local_file
from bigs_cli.tasks.jsonl import good
from bigs_cli.tasks.labels import parse_label
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types.sequence_classification import TextExamples


def read_tsv(task: Task, path: Path) -> TextExamples:
    """Return the examples in `path`, its columns found by header; labels are None if it has no label column.

    Lines end at a newline and nowhere else: questions and sentences hold other Unicode line separators, and
    quotes that belong to the text.

    Raises:
        RequestError: with file and line: a missing column, a row of other length, a label that is none.
    """
    columns, body = find_columns(task, path, tsv_rows(path))
    rows = list(body)
    broken = [(line, fields) for line, fields in rows if len(fields) != len(columns)]
    if len(broken) > task.broken_rows:
        line, fields = broken[0]
        raise RequestError(
            f"{path}:{line}: {len(fields)} columns where the first line has {len(columns)}. "
            "Columns are separated by single tabs, without quoting; mend this line."
        )
    whole = [(i, line, fields) for i, (line, fields) in enumerate(rows) if len(fields) == len(columns)]
    if not whole:
        raise RequestError(f"{path} holds no examples. Fetch or make it again.")

    def texts(name: str) -> list[str]:
        column = columns.index(name)
        return [fields[column] for _, _, fields in whole]

    labels = None
    if task.label in columns:
        column = columns.index(task.label)
        labels = [parse_label(task, fields[column], f"{path}:{line}") for _, line, fields in whole]
    return TextExamples(
        text_a=texts(task.text_a),
        text_b=texts(task.text_b) if task.text_b else None,
        labels=None if labels is None else np.array(labels, task.label_dtype),
        ids=np.array([i for i, _, _ in whole], np.int64),
        skipped=len(broken),
    )


def tsv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Return an iterator over (line number, fields) of each line that is not empty; a byte order mark is dropped.

    Raises:
        RequestError: the file is not UTF-8.
    """
    return good(read_cells(local_file(path), "\t", ragged=True))


def find_columns(
    task: Task, path: Path, rows: Iterator[tuple[int, list[str]]]
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the columns and the rows that follow; a file without a header has the task's own columns.

    Raises:
        RequestError: with file and line: the first line lacks a column that the task needs.
    """
    line, columns = next(rows, (1, []))
    wanted = [name for name in (task.text_a, task.text_b, *task.endings) if name]
    if all(name in columns for name in wanted):
        return columns, rows
    if columns and task.headless and len(columns) == len(task.headless):
        return list(task.headless), chain([(line, columns)], rows)
    missing = ", ".join(f"'{name}'" for name in wanted if name not in columns)
    raise RequestError(
        f"{path}:{line}: no column {missing}, which {task.title} needs; the columns are: "
        f"{', '.join(columns) or 'none'}. Is this {task.title} in the official layout?"
    )
