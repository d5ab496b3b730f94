"""Custom tasks: a table with a text, or a pair of texts, and a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from bigs_cli.core.errors import RequestError, listed
from bigs_cli.core.remote import local_copy
from bigs_cli.data.delimited import parse_number
from bigs_cli.recipe.schema import TaskFiles
from bigs_cli.tasks.labels import label_set, parse_label, read_labels, required_label
from bigs_cli.tasks.metrics import RETRIEVAL
from bigs_cli.tasks.reading import Table, read_table
from bigs_cli.tasks.task import Task

NAME = "custom"
FEW_CLASSES = 20
"""Whole numbers are inferred to be classes if there are at most this many different values, or if each value occurs at
least twice on average. Chosen by this project."""
FEW_EXAMPLES = 5
"""A warning names classes with fewer training examples. Chosen by this project."""

LabelKind = Literal["sequence-classification", "regression"]
_CORRELATIONS = ("spearman", "pearson")
_KINDS = {
    # With two classes such as no and yes, or 0 and 1, F1 is that of the second.
    "sequence-classification": ("sequence-classification", ("accuracy", "macro_f1")),
    "multi-label": ("multi-label-classification", ("micro_f1", "macro_f1", "accuracy")),
    "regression": ("sequence-classification", _CORRELATIONS),
    "embedding": ("sentence-embedding", _CORRELATIONS),
}
"""`files.task_type` → the name of the task type, and its metrics; embeddings can also have those of retrieval."""


def infer_labels(files: TaskFiles) -> tuple[TaskFiles, str]:
    """Return `files` with the task type and the classes filled in, and a note that states them and the reason.

    Given values are kept. Other values are inferred from the labels of the training file, none of which may be missing:
    numbers are scores, unless all are whole and there are at most `FEW_CLASSES` different values or each occurs at
    least twice on average; all other labels are classes. Classes are in numerical or alphabetical order, so that the
    same data gives the same ids for any order of rows and any format.

    Raises:
        RequestError: a file cannot be read or lacks a column, a label is missing or does not fit the task type, there
            is only one class, nearly every text has a different class, or a delimiter is given for one label per text.
    """
    if files.delimiter and files.task_type not in (None, "multi-label"):
        raise RequestError(
            f"files.delimiter separates the labels of a text, but the task type is {files.task_type}. Leave out "
            "--delimiter, or use --task-type multi-label"
        )
    table = read_table(local_copy(files.train))
    if files.task_type == "embedding":
        return _embedding(files, table)
    for name in (files.text, files.pair):
        if name:
            table.texts(name)
    cells = list(zip(table.column(files.label), table.places, strict=True))
    lists = any(isinstance(value, list | tuple | np.ndarray) for value, _ in cells)
    if files.task_type == "multi-label" or (files.task_type is None and (lists or files.delimiter)):
        return _label_sets(files, [label_set(*cell, files.delimiter) for cell in cells])
    values = [required_label(*cell) for cell in cells]
    counts = Counter(values)
    task_type, reason = files.task_type, ""
    if task_type is None and files.labels is None:
        task_type, reason = _proposal(files, counts)
    if task_type == "regression":
        found = files.model_copy(update={"task_type": task_type})
        task = custom_task(found)
        scores = [parse_label(task, *cell) for cell in zip(values, table.places, strict=True)]
        return found, f"{len(values)} scores from {min(scores):g} to {max(scores):g}: regression{reason}."
    labels = files.labels or tuple(sorted(counts, key=_order))
    if len(labels) < 2:
        raise RequestError(f"Every label in {files.train} is '{values[0]}': there is nothing to classify.")
    what = f"{len(labels)} classes ({listed([f'{label} {counts[label]}' for label in labels], 20)})"
    rare = [label for label in labels if counts[label] < FEW_EXAMPLES]
    warning = f"\nClasses with fewer than {FEW_EXAMPLES} examples: {len(rare)} ({listed(rare, 10)})." if rare else ""
    found = files.model_copy(update={"task_type": "sequence-classification", "labels": labels})
    return found, f"{what}: classification{reason}.{warning}"


def _embedding(files: TaskFiles, table: Table) -> tuple[TaskFiles, str]:
    """Return `files` of a task for sentence embeddings, and a note on what is learned from.

    Raises:
        RequestError: the dev set has no pairs.
    """
    dev = read_table(local_copy(files.dev))
    if files.pair is None or files.pair not in dev.names:
        raise RequestError(
            f"The evaluation of sentence embeddings needs pairs of texts, but {files.dev} has no column for the second "
            "one. Name it with --pair COLUMN."
        )
    has_pairs, has_scores = files.pair in table.names, files.label in table.names
    if files.negative:
        table.require([files.negative], ", which --negative names")
    objective = files.objective or ("scores" if has_pairs and has_scores else "ranking")
    evaluation = files.evaluation or ("scores" if files.label in dev.names else "retrieval")
    for split, needed in ((table, objective), (dev, evaluation)):
        if needed == "scores" and read_labels(_scores_of(files), split) is None:
            raise RequestError(f"{split.name} has no scores: there is no column '{files.label}' with values.")
    what = "pairs with scores" if objective == "scores" else "pairs that belong together"
    what += ", with negatives" if files.negative else ""
    if not has_pairs:
        what = "single texts, each paired with itself"
    note = f"{len(table.places):,} {what}; dev: {len(dev.places):,} pairs, {evaluation}: sentence embeddings."
    return files.model_copy(update={"objective": objective, "evaluation": evaluation}), note


def _scores_of(files: TaskFiles) -> Task:
    return custom_task(files.model_copy(update={"task_type": "regression"}))


def _label_sets(files: TaskFiles, sets: Sequence[Sequence[str]]) -> tuple[TaskFiles, str]:
    """Return `files` of a task with several labels per text, and a note on the labels in the training file.

    Raises:
        RequestError: there are fewer than two labels.
    """
    counts = Counter(label for labels in sets for label in labels)
    labels = files.labels or tuple(sorted(counts, key=_order))
    if len(labels) < 2:
        found = f"the only label in {files.train} is '{labels[0]}'" if labels else f"{files.train} has no labels"
        raise RequestError(f"Multi-label classification needs at least two labels, but {found}.")
    found = files.model_copy(update={"task_type": "multi-label", "labels": labels})
    shown = listed([f"{label} {counts[label]}" for label in labels], 20)
    return (
        found,
        f"{len(labels)} labels, {counts.total() / len(sets):.1f} per text ({shown}): multi-label classification.",
    )


def _proposal(files: TaskFiles, counts: Counter[str]) -> tuple[LabelKind, str]:
    """Return the task type inferred from labels, and the end of a sentence with the reason and the alternative."""
    rows, different = counts.total(), len(counts)
    numbers = [parse_number(value) for value in counts]
    instead = "For {} pass --task-type {}"
    if any(number is None for number in numbers):
        if rows == different > FEW_CLASSES:
            raise RequestError(
                f"Column '{files.label}' of {files.train} has {different} different values in {rows} rows. "
                "Name another column with --label; if they are classes, pass --task-type classification."
            )
        return "sequence-classification", ", since the labels are not all numbers"
    if any(number is not None and not number.is_integer() for number in numbers):
        reason = ", since some labels are not whole numbers. "
        return "regression", reason + instead.format("classes", "classification")
    reason = f", since the labels are {different} different whole numbers in {rows} rows. "
    if different <= FEW_CLASSES or different * 2 <= rows:
        return "sequence-classification", reason + instead.format("scores", "regression")
    return "regression", reason + instead.format("classes", "classification")


def _order(label: str) -> tuple[bool, float, str]:
    """Return the sort key of classes: numbers by size, then names."""
    number = parse_number(label)
    return (number is None, 0.0 if number is None else number, label)


def custom_task(files: TaskFiles) -> Task:
    """Return the task described by `files`, whose labels are known."""
    splits = {"train": files.train, "dev": files.dev, "test": files.test}
    kind = files.task_type or "sequence-classification"
    task_type, metrics = _KINDS[kind]
    return Task(
        name=NAME,
        type=task_type,
        title=Path(files.train).name,
        source=files.train,
        labels=files.labels,
        classes_from=" These are the classes of the training file, or those in `files.labels`. To change them, use "
        "--set 'files.labels=[…]'; null selects the classes of the training file.",
        metrics=RETRIEVAL if files.evaluation == "retrieval" else metrics,
        text_a=files.text,
        text_b=files.pair,
        negative=files.negative,
        objective=files.objective,
        label=files.label,
        delimiter=files.delimiter,
        threshold=files.threshold,
        digits=False,
        files={split: (name,) for split, name in splits.items() if name},
        sizes={split: 0 for split, name in splits.items() if name},
    )
