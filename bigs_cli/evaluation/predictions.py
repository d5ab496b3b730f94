"""predictions.jsonl, what a run answered to every dev example, read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import parse_json
from bigs_cli.tasks.task import Task

Array = np.ndarray[Any, Any]


class _Best(BaseModel):
    """One of the best answers to a question."""

    text: str
    probability: float


class _Line(BaseModel):
    """What is read of a line; its label and prediction are judged by the task (`evaluation/judged.py`)."""

    split: str = ""
    text: str = ""
    pair: str = ""
    choices: list[str] = []
    words: list[str] = []
    scores: dict[str, float] | list[float | None] = []
    nbest: list[_Best] = []


@dataclass(frozen=True)
class Answers:
    """Labels and predictions `[n]` of one split: class ids in the task's order, or scores."""

    labels: Array
    predictions: Array


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a predictions file.

    Raises:
        RequestError: it is not there, or a line is no JSON object with a prediction and what else it should have.
    """
    try:
        with path.open(encoding="utf-8") as file:
            lines = [parse_json(line) for line in file]
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise RequestError(f"{path} is not JSON lines ({error}).") from error
    if not all(isinstance(line, dict) and "prediction" in line for line in lines):
        raise RequestError(f"{path} does not hold predictions: a line has none.")
    for number, line in enumerate(lines, 1):
        try:
            _Line.model_validate(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise RequestError(f"{path}:{number} is garbled: {where}: {first['msg']}.") from None
    return lines


def of_split(lines: Sequence[Mapping[str, Any]], split: str) -> list[Mapping[str, Any]]:
    """Return the lines of `split`."""
    return [line for line in lines if line.get("split") == split]


def answers(task: Task, lines: Sequence[Mapping[str, Any]], split: str = "dev") -> Answers:
    """Return labels and predictions of the lines of `split`: one an example, or, of tagged sentences, one a word.

    Raises:
        RequestError: a line has no label, or names none of the task's classes.
    """
    places = {name: i for i, name in enumerate(task.labels or ())}
    try:
        pairs = [(line["label"], line["prediction"]) for line in of_split(lines, split)]
        if task.form == "tagged":
            pairs = [both for sentence in pairs for both in zip(*sentence, strict=True)]
        if task.labels is None:
            pairs = [(float(label), float(prediction)) for label, prediction in pairs]
        else:
            pairs = [(places[label], places[prediction]) for label, prediction in pairs]
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"These predictions are not those of {task.title}: {error} is no label of it.") from error
    both = np.array(pairs, task.label_dtype).reshape(-1, 2)
    return Answers(both[:, 0], both[:, 1])
