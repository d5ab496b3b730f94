"""Finds the columns of a task in a table, and interprets labels: missing values, classes and scores.

The rules are the same for every format.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from bigs_cli.core.errors import RequestError, did_you_mean, listed
from bigs_cli.data.delimited import parse_number
from bigs_cli.tasks.reading import Table
from bigs_cli.tasks.task import Task

_MISSING = ("", "nan", "null", "<na>")
"""How other programs write missing values; "none" and "NA" are not included, as they may be names of classes."""
_INFINITE = ("inf", "infinity")


def label_text(value: Any, where: str) -> str | None:
    """Return a label as text, or None if it is missing: null, NaN (also as text), or blank.

    Equal labels give equal texts in every format: 1, 1.0 and "1" are ``1``; true, "True" and "TRUE" are ``true``. A
    value that `parse_number` does not accept is a name, such as 2020_01, 0x10 and 007.

    Raises:
        RequestError: the value is infinite, or not a single value; the message starts with `where`.
    """
    if isinstance(value, list | tuple | dict | bytes):
        kind = "object" if isinstance(value, dict) else "bytes" if isinstance(value, bytes) else "list"
        raise RequestError(
            f"{where}: the label is of type {kind} ({_shown(value)}). Each example needs one class or one number."
        )
    text = str(value).strip()
    lower = text.lower()
    if value is None or lower in _MISSING:
        return None
    if lower in ("true", "false"):
        return lower
    number = parse_number(text)
    if lower.lstrip("+-") in _INFINITE or (number is not None and math.isinf(number)):
        raise RequestError(f"{where}: the label '{_shown(value)}' is not a finite number. Correct it.")
    if number is None:
        return text
    if number.is_integer():
        # Ids may differ only in digits beyond the 53 bits of a float.
        return str(int(text) if text.lstrip("+-").isdecimal() else int(number))
    return repr(number)


def required_label(value: Any, where: str) -> str:
    """Return a label as text, like `label_text`.

    Raises:
        RequestError: it is missing or invalid.
    """
    text = label_text(value, where)
    if text is None:
        reason = "the cell is empty" if value is None or not str(value).strip() else f"the value is {_shown(value)}"
        raise RequestError(f"{where} has no label: {reason}. Add the label, or leave the row out.")
    return text


def parse_label(task: Task, value: Any, where: str) -> float:
    """Return the class id or the score in `value`; an error message starts with `where`.

    A class is written as its name or, if the files of the task do so, as its id.

    Raises:
        RequestError: the label is missing, not a class of the task, or not a finite number.
    """
    text = required_label(value, where)
    if task.labels is None:
        score = parse_number(text)
        if score is None:
            raise RequestError(f"{where}: the {task.title} score '{_shown(value)}' is not a number.")
        return score
    ids = _class_ids(task.labels, task.digits)
    label = ids.get(str(value).strip(), ids.get(text))
    if label is None:
        known = [f"{i} ({name})" if task.digits else name for i, name in enumerate(task.labels)]
        raise RequestError(
            f"{where}: '{_shown(value)}' is not a label of {task.title}.{did_you_mean(text, task.labels)} "
            f"Its labels are {listed(known, 20)}.{task.classes_from}"
        )
    return label


def text_columns(task: Task, table: Table) -> tuple[str, str | None]:
    """Return the columns of the first and second text: those of the official files, or those on the hub.

    Raises:
        RequestError: one is missing.
    """
    own = task.text_a, task.text_b
    names = (task.hub.text_a, task.hub.text_b) if task.hub else own
    if not {*names} - {None} <= {*table.names}:
        table.require([name for name in own if name], f", which {task.title} needs")
        names = own
    return names


def label_column(task: Task, table: Table) -> str | None:
    """Return the column of the labels: that of the official files or, on the hub, "label"; None if there is none."""
    names = (task.label, "label") if task.hub else (task.label,)
    return next((name for name in names if name in table.names), None)


def read_labels(task: Task, table: Table) -> np.ndarray[Any, Any] | None:
    """Return the labels in a table, `[n]` of `Task.label_dtype`; None if no row has one.

    Raises:
        RequestError: a label is missing, or is not a label of the task.
    """
    column = label_column(task, table)
    values = table.column(column) if column else []
    missing = (None, "-1") if task.hub else (None,)  # -1 in the hub's test splits
    if all(label_text(*cell) in missing for cell in zip(values, table.places, strict=False)):
        return None
    return np.array([parse_label(task, *cell) for cell in zip(values, table.places, strict=True)], task.label_dtype)


def label_set(value: Any, where: str, delimiter: str | None) -> list[str]:
    """Return the labels in a cell as texts: those of a list, or those between delimiters; missing ones are left out.

    Raises:
        RequestError: one of them is invalid.
    """
    if isinstance(value, list | tuple | np.ndarray):
        parts = list(value)
    else:
        parts = str(value).split(delimiter) if delimiter and value is not None else [value]
    return list(dict.fromkeys(text for part in parts if (text := label_text(part, where)) is not None))


def read_label_sets(task: Task, table: Table) -> np.ndarray[Any, Any] | None:
    """Return int32 `[n, K]`, 1 for each of the K labels of the task that a row has; None if no row has one.

    Raises:
        RequestError: a label is not one of the task.
    """
    column = label_column(task, table)
    if column is None:
        return None
    cells = zip(table.column(column), table.places, strict=True)
    sets = [label_set(value, where, task.delimiter) for value, where in cells]
    if not any(sets):
        return None
    found = np.zeros((len(sets), task.num_labels), np.int32)
    for row, names, where in zip(found, sets, table.places, strict=True):
        row[[int(parse_label(task, name, where)) for name in names]] = 1
    return found


@functools.cache
def _class_ids(labels: tuple[str, ...], digits: bool) -> dict[str, int]:
    """Return text → id.

    A label that is exactly the name of a class takes precedence over one that equals a name after `label_text`, and
    both take precedence over ids.
    """
    named = [(name, i) for i, name in enumerate(labels)]
    equal = [(label_text(name, "a label") or name, i) for name, i in named]
    ids = [(str(i), i) for i in range(len(labels))] if digits else []
    return dict(reversed([*named, *equal, *ids]))


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
