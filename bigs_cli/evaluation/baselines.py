"""The scores of the majority baseline, and whether a model gives the same answer to every example."""

from __future__ import annotations

from collections.abc import Mapping

from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.core.metric_names import by_split, split_in_words
from bigs_cli.core.wording import counted
from bigs_cli.evaluation.predictions import of_split, read_predictions
from bigs_cli.reporting.scores import Baseline, Scores
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import type_of
from bigs_cli.tasks.types.base import Lines


def scores_of(task: Task, splits: Mapping[str, Mapping[str, float | None]], lines: Lines) -> Scores:
    """Return metrics by split with the majority baseline of each, and notes on predictions that are all the same.

    `lines` are records with `split`, `label` and `prediction`, as predictions.jsonl has them. The baseline answers
    every example with the most frequent label (of tags, `O`); question answering and regression have none.

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
        task_type.example_scores(split_lines)  # refuses what is not of this task
        if (majority := task_type.majority(split_lines)) is not None:
            name, predictions = majority
            always = [{**line, "prediction": value} for line, value in zip(split_lines, predictions, strict=True)]
            baselines[split] = Baseline(name, task_type.example_scores(always).all_metrics())
        if len(split_lines) > 1 and (answer := task_type.constant_answer(split_lines)):
            examples = counted(len(split_lines), f"{split_in_words(split)} example")
            notes.append(f"The model answers {answer} to all {examples}: it tells none of them apart.")
    return Scores(splits, baselines, tuple(notes))


def scores_of_run(task: Task, run: RunFolder) -> Scores:
    """Return what a finished run scored; without baselines where its predictions cannot be read.

    Raises:
        RequestError: results.json is garbled.
    """
    splits = by_split(run.results())
    try:
        return scores_of(task, splits, read_predictions(run.predictions_file))
    except RequestError as error:
        why = str(error).replace(str(run.path), run.path.name)
        return Scores(splits, {}, (f"There is no majority baseline: {why}",))
