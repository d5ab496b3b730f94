"""Which columns of a table are a task's, and what labels mean: which are missing, which are one class, which scores.

The same holds for every format.
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
"""How other programs write that there is no value; "none" and "NA" may be names of classes."""
_INFINITE = ("inf", "infinity")


def label_text(value: Any, where: str) -> str | None:
    """Return a label as text, or None if it is missing: null, NaN (also written as text), or blank.

    Equal labels are equal texts in every format: 1, 1.0 and "1" are ``1``; true, "True" and "TRUE" are ``true``. What
    `parse_number` does not take for a number is a name, such as 2020_01, 0x10 and 007.

    Raises:
        RequestError: the value is infinite, or not a single value; `where` opens the sentence.
    """
    if isinstance(value, list | tuple | dict | bytes):
        kind = "object" if isinstance(value, dict) else "bytes" if isinstance(value, bytes) else "list"
        raise RequestError(
            f"{where}: the label is of type {kind} ({_shown(value)}). Each example takes one class or one number."
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
        # Digits beyond the 53 bits of a float still tell ids apart.
        return str(int(text) if text.lstrip("+-").isdecimal() else int(number))
    return repr(number)


def required_label(value: Any, where: str) -> str:
    """Return a label as `label_text` does.

    Raises:
        RequestError: it is missing, or none.
    """
    text = label_text(value, where)
    if text is None:
        what = "the cell is empty" if value is None or not str(value).strip() else f"the value is {_shown(value)}"
        raise RequestError(f"{where} has no label: {what}. Add the label, or leave the row out.")
    return text


def parse_label(task: Task, value: Any, where: str) -> float:
    """Return the id of the class (or the score) that `value` stands for; `where` opens the error's sentence.

    A class may be written as its name, or as its id where the task's files do so.

    Raises:
        RequestError: it is missing, no class of the task, or not a finite number.
    """
    text = required_label(value, where)
    if task.labels is None:
        score = parse_number(text)
        if score is None:
            raise RequestError(f"{where}: the {task.title} score '{_shown(value)}' is not a number.")
        return score
    ids = _class_ids(task.labels, task.digits)
    found = ids.get(str(value).strip(), ids.get(text))
    if found is None:
        known = [f"{i} ({name})" if task.digits else name for i, name in enumerate(task.labels)]
        raise RequestError(
            f"{where}: '{_shown(value)}' is not a label of {task.title}.{did_you_mean(text, task.labels)} "
            f"Its labels are {listed(known, 20)}.{task.classes_from}"
        )
    return found


def text_columns(task: Task, table: Table) -> tuple[str, str | None]:
    """Return the columns of the first and second text: those of the task's own files, or those that the hub has.

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
    """Return the column of the labels: the task's own or, for a task on the hub, "label"; None: there is none."""
    names = (task.label, "label") if task.hub else (task.label,)
    return next((name for name in names if name in table.names), None)


def read_labels(task: Task, table: Table) -> np.ndarray[Any, Any] | None:
    """Return the labels in a table, `[n]` of `Task.label_dtype`; None if no row has one.

    Raises:
        RequestError: a label is missing, or not one of the task's.
    """
    column = label_column(task, table)
    values = table.column(column) if column else []
    missing = (None, "-1") if task.hub else (None,)  # -1 in the hub's test splits
    if all(label_text(*cell) in missing for cell in zip(values, table.places, strict=False)):
        return None
    return np.array([parse_label(task, *cell) for cell in zip(values, table.places, strict=True)], task.label_dtype)


@functools.cache
def _class_ids(labels: tuple[str, ...], digits: bool) -> dict[str, int]:
    """Return id by text: names come before ids, and a name as it is before what equals it."""
    named = [(name, i) for i, name in enumerate(labels)]
    equal = [(label_text(name, "a label") or name, i) for name, i in named]
    ids = [(str(i), i) for i in range(len(labels))] if digits else []
    return dict(reversed([*named, *equal, *ids]))


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
