"""A task of one's own: a table with a text, or a pair of texts, and a label."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.recipe.schema import TaskFiles
from bigs_cli.tasks.columns import Table, read_table_file
from bigs_cli.tasks.examples import Texts
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.tsv import parse_label

NAME = "custom"
MOST_CLASSES = 50
"""Whole numbers with more different values than this are scores, and texts with more are no labels."""


def look_at(files: TaskFiles) -> tuple[TaskFiles, str]:
    """Return `files` with the labels that the training file has (None: scores), and a sentence that says what they are.

    Labels that are given stay. A column of numbers that are not all whole, or are of more than 50 values, holds scores;
    everything else, classes, in the order of their numbers or their letters.

    Raises:
        RequestError: a file cannot be read or lacks a column, there is one class only, or every text has its own.
    """
    table = read_table_file(Path(files.train))
    _texts(files, table)
    values = [_written(value) for value in table.column(files.label)]
    for value, place in zip(values, table.places, strict=True):
        if not value:
            raise RequestError(f"{place} has no label: column '{files.label}' is empty.")
    if files.regression or files.labels:
        found = files
    else:
        distinct = sorted(set(values))
        numbers = [_number(value) for value in distinct]
        whole = all(number is not None and number.is_integer() for number in numbers)
        if all(number is not None for number in numbers) and not (whole and len(distinct) <= MOST_CLASSES):
            found = files.model_copy(update={"regression": True})
        elif len(distinct) > MOST_CLASSES:
            raise RequestError(
                f"Column '{files.label}' of {files.train} has {len(distinct)} different values, too many for classes "
                f"(at most {MOST_CLASSES}). Name another one with --label."
            )
        else:
            ordered = sorted(distinct, key=float) if whole else distinct
            found = files.model_copy(update={"labels": tuple(ordered)})
    if found.regression:
        scores = [
            parse_label(custom_task(found), value, place) for value, place in zip(values, table.places, strict=True)
        ]
        return found, f"{len(values)} scores from {min(scores):g} to {max(scores):g}: regression"
    labels = found.labels or ()
    if len(labels) < 2:
        raise RequestError(f"Every label in {files.train} is '{values[0]}': there is nothing to tell apart.")
    counts = ", ".join(f"{label} {values.count(label)}" for label in labels)
    return found, f"{len(labels)} classes ({counts}): classification"


def custom_task(files: TaskFiles) -> Task:
    """Return the task that `files` describe, their labels being known."""
    splits = {"train": files.train, "dev": files.dev, "test": files.test}
    # Of two classes that mean no and yes, or 0 and 1, the second is what F1 is about.
    metrics = ("spearman", "pearson") if files.regression else ("accuracy", "macro_f1")
    return Task(
        name=NAME,
        title=Path(files.train).name,
        source=files.train,
        labels=None if files.regression else files.labels,
        metrics=metrics,
        first=files.text,
        second=files.pair,
        label=files.label,
        digits=False,
        files={split: (name,) for split, name in splits.items() if name},
        sizes={split: 0 for split, name in splits.items() if name},
        read=read_custom,
    )


def read_custom(task: Task, path: Path) -> Texts:
    """Return the examples of a table; one without a label column, or with an empty one, has no labels.

    Raises:
        RequestError: with file and line: a column is missing, a text is none, a label is not the task's.
    """
    table = read_table_file(path)
    first = table.texts(task.first)
    second = table.texts(task.second) if task.second else None
    labels = None
    if task.label in table.cells[0]:
        values = [_written(value) for value in table.column(task.label)]
        if any(values):
            parsed = [parse_label(task, value, place) for value, place in zip(values, table.places, strict=True)]
            labels = np.array(parsed, task.label_dtype)
    return Texts(first, second, labels, np.arange(len(first)))


def _texts(files: TaskFiles, table: Table) -> None:
    table.texts(files.text)
    if files.pair:
        table.texts(files.pair)


def _written(value: Any) -> str:
    """Return a label as text; 1.0 and 1 are the same."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
