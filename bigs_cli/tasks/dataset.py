"""The examples in a table of the `datasets` library, its columns found by name: one function for each task type."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.labels import label_text, parse_choice, parse_label
from bigs_cli.tasks.squad import check_answers
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types.multiple_choice import ChoiceExamples
from bigs_cli.tasks.types.question_answering import QuestionExamples, place_answers
from bigs_cli.tasks.types.sequence_classification import TextExamples
from bigs_cli.tasks.types.token_classification import TokenExamples

if TYPE_CHECKING:
    from datasets import Dataset


def read_table(task: Task, table: Dataset, where: str) -> Examples:
    """Return the examples of `table`, its labels brought into the task's order by name, never by number.

    `where` opens the sentence of an error. If every label is −1, as in the hub's test splits, there are none.

    Raises:
        RequestError: a column is missing, a text is missing or not UTF-8, or a label is not the task's.
    """
    try:
        return _READERS[task.type](task, table, where)
    except UnicodeDecodeError as error:
        raise RequestError(f"{where}: a text is not UTF-8 ({error.reason}). Fetch or make it again.") from None


def _texts(task: Task, table: Dataset, where: str) -> TextExamples:
    first, second = _text_columns(task, table.column_names, where)
    label = _label_column(task, table)
    columns = _columns(table, [name for name in (first, second, label) if name])
    for name in (first, second):
        if name:
            _check_texts(columns[name], f"{where}: column '{name}'")
    return TextExamples(
        text_a=columns[first],
        text_b=columns[second] if second else None,
        labels=_labels(task, columns[label], table.features[label], where) if label else None,
        ids=np.arange(len(table), dtype=np.int64),
    )


def _tagged(task: Task, table: Dataset, where: str) -> TokenExamples:
    first, _ = _text_columns(task, table.column_names, where)
    label = _label_column(task, table)
    columns = _columns(table, [name for name in (first, label) if name])
    words = columns[first]
    for row, sentence in enumerate(words):
        _check_texts(sentence, f"{where}, row {row + 1}: column '{first}'")
    tags = columns[label] if label else []
    if not any(tags):
        return TokenExamples(words, None)
    names = _class_names(task, getattr(table.features[label], "feature", None), where)
    for row, (sentence, marks) in enumerate(zip(words, tags, strict=True)):
        if len(sentence) != len(marks or []):
            raise RequestError(f"{where}, row {row + 1}: {len(sentence)} words have {len(marks or [])} tags.")
    return TokenExamples(
        words,
        [
            [int(parse_label(task, _named(names, tag), f"{where}, row {row + 1}")) for tag in marks or []]
            for row, marks in enumerate(tags)
        ],
    )


def _questions(task: Task, table: Dataset, where: str) -> QuestionExamples:
    first, second = _text_columns(task, table.column_names, where)
    assert second is not None
    named = "id" in table.column_names
    label = _label_column(task, table)
    columns = _columns(table, [first, second, *(["id"] if named else []), *([label] if label else [])])
    for name in (first, second):
        _check_texts(columns[name], f"{where}: column '{name}'")
    ids = [str(value) for value in columns["id"]] if named else [str(row) for row in range(len(table))]
    answers = None
    if label:
        answers = [_answers(task, value, f"{where}, row {row + 1}") for row, value in enumerate(columns[label])]
    return place_answers(QuestionExamples(ids, columns[first], columns[second], answers), where)


def _answers(task: Task, value: Any, where: str) -> list[tuple[str, int]]:
    """Return the (text, place) pairs of `{"text": […], "answer_start": […]}`, as the hub's tables have them."""
    if not isinstance(value, dict) or not {"text", "answer_start"} <= value.keys():
        raise RequestError(f"{where}: the answers are not texts with their answer_start.")
    texts, places = value["text"], value["answer_start"]
    if len(texts) != len(places):
        raise RequestError(f"{where}: {len(texts)} answers have {len(places)} places.")
    if not all(isinstance(text, str) and isinstance(at, int) for text, at in zip(texts, places, strict=True)):
        raise RequestError(f"{where}: an answer is no text, or its answer_start no whole number.")
    return check_answers(task, list(zip(texts, places, strict=True)), where)


def _choices(task: Task, table: Dataset, where: str) -> ChoiceExamples:
    first, _ = _text_columns(task, table.column_names, where)
    missing = [name for name in task.endings if name not in table.column_names]
    if missing:
        raise RequestError(f"{where}: no column {missing[0]}; the columns are: {', '.join(table.column_names)}.")
    label = _label_column(task, table)
    columns = _columns(table, [first, *task.endings, *([label] if label else [])])
    for name in (first, *task.endings):
        _check_texts(columns[name], f"{where}: column '{name}'")
    endings = [list(row) for row in zip(*(columns[name] for name in task.endings), strict=True)]
    values = columns[label] if label else []
    if _unlabelled(values, where):
        return ChoiceExamples(columns[first], endings, None)
    labels = [parse_choice(task, value, f"{where}, row {row + 1}") for row, value in enumerate(values)]
    return ChoiceExamples(columns[first], endings, np.array(labels, np.int32))


_READERS: dict[str, Callable[[Task, Dataset, str], Examples]] = {
    "sequence-classification": _texts,
    "token-classification": _tagged,
    "question-answering": _questions,
    "multiple-choice": _choices,
}


def _columns(table: Dataset, names: list[str]) -> dict[str, list[Any]]:
    return table.select_columns(names)[:]


def _label_column(task: Task, table: Dataset) -> str | None:
    return next((name for name in ("label", task.label) if name in table.column_names), None)


def _check_texts(values: list[Any] | None, where: str) -> None:
    if values is None or not all(isinstance(text, str) for text in values):
        raise RequestError(f"{where} holds something that is not text.")


def _text_columns(task: Task, columns: list[str], where: str) -> tuple[str, str | None]:
    """Return the columns of the first and second text: the hub's names, or those of the official files."""
    pairs = {(task.text_a, task.text_b): None}
    if task.hub is not None:
        pairs = {(task.hub.text_a, task.hub.text_b): None, **pairs}
    for first, second in pairs:
        if first in columns and (second is None or second in columns):
            return first, second
    wanted = " or ".join(" + ".join(name for name in pair if name) for pair in pairs)
    raise RequestError(f"{where}: no columns {wanted}; the columns are: {', '.join(columns)}.")


def _labels(task: Task, values: list[Any], feature: Any, where: str) -> np.ndarray[Any, Any] | None:
    if _unlabelled(values, where):
        return None
    names = _class_names(task, feature, where)
    labels = [parse_label(task, _named(names, value), f"{where}, row {row + 1}") for row, value in enumerate(values)]
    return np.array(labels, task.label_dtype)


def _unlabelled(values: list[Any], where: str) -> bool:
    """Whether no value is a label: all are missing, or −1 as in the hub's test splits."""
    return all(label_text(value, where) in (None, "-1") for value in values)


def _named(names: list[str] | None, value: Any) -> Any:
    """Return the name of a class by its number in the table; any other value as it is."""
    known = names is not None and isinstance(value, int) and 0 <= value < len(names)
    return names[value] if names is not None and known else value


def _class_names(task: Task, feature: Any, where: str) -> list[str] | None:
    """Return what the table calls its classes, None if it has numbers or words; the names must be the task's."""
    names = getattr(feature, "names", None)
    if task.labels is not None and names is not None and set(names) != set(task.labels):
        raise RequestError(
            f"{where}: its labels are {', '.join(names)}; those of {task.title} are {', '.join(task.labels)}."
        )
    return names
