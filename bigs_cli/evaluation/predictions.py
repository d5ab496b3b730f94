"""predictions.jsonl, the predictions of a run for every dev example: reading, scoring, and the majority baseline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.error_messages import read_error
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import parse_json
from bigs_cli.core.json_objects import first_problem
from bigs_cli.core.metric_names import by_split, split_in_words
from bigs_cli.core.wording import counted
from bigs_cli.reporting.scores import Baseline, Scores
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import type_of
from bigs_cli.tasks.types.base import ExampleScores, Lines


class _Best(BaseModel):
    """A candidate answer to a question."""

    text: str
    probability: float


class _Line(BaseModel):
    """The fields of a line that are read, except label and prediction, which the task type checks."""

    split: str = ""
    text: str = ""
    pair: str = ""
    choices: list[str] = []
    words: list[str] = []
    scores: dict[str, float] | list[float | None] = []
    nbest: list[_Best] = []


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a predictions file.

    Raises:
        RequestError: the file cannot be read, or a line is not a JSON object with a prediction and valid fields.
    """
    try:
        with path.open(encoding="utf-8") as file:
            lines = [parse_json(line) for line in file]
    except OSError as error:
        raise read_error(path, error) from error
    except ValueError as error:
        raise RequestError(f"{path} is not JSON lines ({error}).") from error
    if not all(isinstance(line, dict) and "prediction" in line for line in lines):
        raise RequestError(f"{path} is not a predictions file: a line has no prediction.")
    for number, line in enumerate(lines, 1):
        try:
            _Line.model_validate(line)
        except ValidationError as error:
            raise RequestError(f"{path}:{number} is invalid: {first_problem(error)}.") from None
    return lines


def of_split(lines: Lines, split: str) -> list[Mapping[str, Any]]:
    """Return the lines of `split`."""
    return [line for line in lines if line.get("split") == split]


def example_scores(task: Task, lines: Lines) -> ExampleScores:
    """Score each line of the dev set.

    Raises:
        RequestError: a line is not of this task.
    """
    return type_of(task).example_scores(of_split(lines, "dev"))


def scores_of(task: Task, splits: Mapping[str, Mapping[str, float | None]], lines: Lines) -> Scores:
    """Return the metrics by split with the majority baseline of each, and notes on constant predictions.

    `lines` are those of predictions.jsonl, with `split`, `label` and `prediction`. The baseline predicts the most
    frequent label (for tags, `O`) for every example; question answering and regression have no baseline.

    Raises:
        RequestError: a line is not of this task.
    """
    task_type = type_of(task)
    baselines: dict[str, Baseline] = {}
    notes: list[str] = []
    for split in splits:
        split_lines = of_split(lines, split)
        if not split_lines:
            continue
        task_type.example_scores(split_lines)  # Raises an error for lines of another task.
        if (majority := task_type.majority(split_lines)) is not None:
            name, predictions = majority
            baseline_lines = [
                {**line, "prediction": value} for line, value in zip(split_lines, predictions, strict=True)
            ]
            baselines[split] = Baseline(name, task_type.example_scores(baseline_lines).all_metrics())
        if len(split_lines) > 1 and (answer := task_type.constant_answer(split_lines)):
            examples = counted(len(split_lines), f"{split_in_words(split)} example")
            notes.append(f"The model predicts {answer} for all {examples}: it does not distinguish them.")
    return Scores(splits, baselines, tuple(notes))


def scores_of_run(task: Task, run: RunFolder) -> Scores:
    """Return the scores of a finished run, without baselines if its predictions cannot be read.

    Raises:
        RequestError: results.json is invalid.
    """
    splits = by_split(run.results())
    try:
        return scores_of(task, splits, read_predictions(run.predictions_file))
    except RequestError as error:
        reason = str(error).replace(str(run.path), run.path.name)
        return Scores(splits, {}, (f"There is no majority baseline: {reason}",))
