"""Lines of a file of examples, and those that hold a JSON object each; packed files (.gz, …) are unpacked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bigs_cli.core.errors import RequestError, check_unicode
from bigs_cli.core.files import parse_json
from bigs_cli.data.documents import BadRecord
from bigs_cli.data.files import TextFile, find_files
from bigs_cli.tasks.labels import label_text, parse_label
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types.sequence_classification import TextExamples

Read = TypeVar("Read")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end). Lines end at a newline and nowhere else.

    Raises:
        RequestError: the file is not there, not UTF-8, or a damaged archive.
    """
    for file in find_files(str(path)) or ():
        for number, line in lines_of(file):
            yield number, line.removesuffix("\n").removesuffix("\r")


def lines_of(file: TextFile) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line with its end).

    Raises:
        RequestError: a line cannot be read.
    """
    yield from good(file.lines())


def good(lines: Iterable[tuple[int, Read | BadRecord]]) -> Iterator[tuple[int, Read]]:
    """Yield lines, or rows, as they come.

    Raises:
        RequestError: one cannot be read.
    """
    for number, line in lines:
        if isinstance(line, BadRecord):
            raise RequestError(line.message)
        yield number, line


def objects_of(file: TextFile) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (file and line, object) of each line that is not blank.

    Raises:
        RequestError: a line cannot be read, or is no JSON object.
    """
    for number, line in lines_of(file):
        if not line.strip():
            continue
        where = f"{file.name}:{number}"
        try:
            row = parse_json(line, unique_keys=True)
        except ValueError as error:
            raise RequestError(f"{where} is not JSON ({error}). One object a line is expected.") from None
        if not isinstance(row, dict):
            raise RequestError(f"{where} is not a JSON object.")
        yield where, row


def texts_of(
    task: Task, path: Path, label: str, texts: Callable[[dict[str, Any], str], tuple[str, str | None]]
) -> TextExamples:
    """Return the examples of a file of objects: `texts(row, where)` gives one's texts, the key `label` its class.

    Raises:
        RequestError: with file and line: a text is missing, a label is not the task's, or some have one and some not.
    """
    first: list[str] = []
    second: list[str | None] = []
    labels: list[float] = []
    for where, row in (pair for file in find_files(str(path)) or () for pair in objects_of(file)):
        one, other = texts(row, where)
        first.append(one)
        second.append(other)
        if label_text(row.get(label), where) is not None:
            labels.append(parse_label(task, row[label], where))
        if labels and len(labels) != len(first):
            raise RequestError(f"{where}: some examples have a '{label}' and some have none.")
    if not first:
        raise RequestError(f"{path} holds no examples. Fetch or make it again.")
    return TextExamples(
        text_a=first,
        text_b=[text or "" for text in second] if task.text_b else None,
        labels=np.array(labels, task.label_dtype) if labels else None,
        ids=np.arange(len(first), dtype=np.int64),
    )


def text_in(row: dict[str, Any], key: str, where: str) -> str:
    """Return the text at `key`.

    Raises:
        RequestError: there is none, or it is not Unicode; `where` opens the sentence.
    """
    if not isinstance(row.get(key), str):
        raise RequestError(f"{where}: there is no text '{key}'; the keys are: {', '.join(row) or 'none'}.")
    check_unicode(row[key], where)
    return row[key]
