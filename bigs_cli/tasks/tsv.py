"""Reading one split of a task from a tab-separated file without quoting, as GLUE publishes them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.tasks.examples import Texts
from bigs_cli.tasks.task import Task


def read_tsv(task: Task, path: Path) -> Texts:
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
    return Texts(
        first=texts(task.first),
        second=texts(task.second) if task.second else None,
        labels=None if labels is None else np.array(labels, task.label_dtype),
        ids=np.array([i for i, _, _ in whole], np.int64),
        skipped=len(broken),
    )


def parse_label(task: Task, text: str, where: str) -> float:
    """Return the id of the class (or the score) that `text` writes; `where` opens the error's sentence.

    A class may be written as its name, or as its id where the task's files do so.

    Raises:
        RequestError: `text` names no class of the task, or is no finite number.
    """
    text = text.strip()
    if task.labels is None:
        try:
            score = float(text)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise RequestError(f"{where}: the {task.title} score '{text}' is not a number.")
        return score
    if text in task.labels:
        return task.labels.index(text)
    ids = [str(i) for i in range(len(task.labels))] if task.digits else []
    if text in ids:
        return int(text)
    known = [f"{i} ({name})" for i, name in zip(ids, task.labels, strict=True)] if ids else task.labels
    raise RequestError(f"{where}: '{text}' is not a label of {task.title}. Its labels are {', '.join(known)}.")


def parse_choice(task: Task, text: str, where: str) -> int:
    """Return the place of the right one among the task's endings, counted from 0, that `text` writes.

    Raises:
        RequestError: there is no such ending; `where` opens the sentence.
    """
    count = len(task.endings)
    if text.strip() not in map(str, range(count)):
        raise RequestError(f"{where}: '{text}' is not the place of an ending of {task.title}, 0 to {count - 1}.")
    return int(text)


def tsv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) for each line that is not empty; a byte order mark is dropped.

    Raises:
        RequestError: the file is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                text = line.removesuffix("\n").removesuffix("\r")
                if text:
                    yield number, text.split("\t")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8 text ({error}). Convert it, or fetch it again.") from error


def find_columns(
    task: Task, path: Path, rows: Iterator[tuple[int, list[str]]]
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the columns and the rows that follow; a file without a header has the task's own columns.

    Raises:
        RequestError: with file and line: the first line lacks a column that the task needs.
    """
    line, columns = next(rows, (1, []))
    wanted = [name for name in (task.first, task.second, *task.endings) if name]
    if all(name in columns for name in wanted):
        return columns, rows
    if columns and task.headless and len(columns) == len(task.headless):
        return list(task.headless), chain([(line, columns)], rows)
    missing = ", ".join(f"'{name}'" for name in wanted if name not in columns)
    raise RequestError(
        f"{path}:{line}: no column {missing}, which {task.title} needs; the columns are: "
        f"{', '.join(columns) or 'none'}. Is this {task.title} in the official layout?"
    )
