"""What one answer to every example scores, and whether a model gives just one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.core.metric_names import by_split, split_in_words
from bigs_cli.core.wording import counted
from bigs_cli.evaluation.entities import OUTSIDE
from bigs_cli.evaluation.judged import Lines, judge
from bigs_cli.evaluation.predictions import of_split, read_predictions
from bigs_cli.reporting.scores import Baseline, Scores
from bigs_cli.tasks.task import Task

_NARROW = 0.01  # of the labels' range: scores that differ less than that are one score, whatever they correlate with


def scores_of(task: Task, splits: Mapping[str, Mapping[str, float | None]], lines: Lines) -> Scores:
    """Return metrics by split with the majority baseline of each, and notes on predictions that are all the same.

    `lines` are records with `split`, `label` and `prediction`, as predictions.jsonl has them. The baseline answers
    every example with the most frequent label (of tags, `O`); there is none for questions and for scores.

    Raises:
        RequestError: a line is not one of this task.
    """
    baselines: dict[str, Baseline] = {}
    notes: list[str] = []
    for split in splits if task.form != "questions" else ():
        of_this = of_split(lines, split)
        if not of_this:
            continue
        judge(task, of_this, split)  # refuses what is not of this task
        if _has_classes(task):
            baselines[split] = _majority_baseline(task, of_this, split)
        if len(of_this) > 1 and (answer := _constant_answer(task, of_this)):
            examples = counted(len(of_this), f"{split_in_words(split)} example")
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


def _majority_baseline(task: Task, lines: Lines, split: str) -> Baseline:
    if task.form == "tagged":
        answer = OUTSIDE
        always = [{**line, "prediction": [answer] * len(line["label"])} for line in lines]
    else:
        answer = Counter(line["label"] for line in lines).most_common(1)[0][0]
        always = [{**line, "prediction": answer} for line in lines]
    scored = judge(task, always, split)
    every = np.arange(scored.count)
    return Baseline(_shown(task, answer), {name: metric(every) for name, metric in scored.metrics.items()})


def _constant_answer(task: Task, lines: Lines) -> str | None:
    """Return the one answer that all examples have; None if there are several."""
    if not _has_classes(task):
        predictions, labels = (np.array([float(line[of]) for line in lines]) for of in ("prediction", "label"))
        narrow = np.ptp(predictions) <= _NARROW * np.ptp(labels)
        return f"about {predictions.mean():.3g}" if narrow else None
    if task.form == "tagged":
        answers = {tag for line in lines for tag in line["prediction"]}
    else:
        answers = {line["prediction"] for line in lines}
    return f"“{_shown(task, answers.pop())}”" if len(answers) == 1 else None


def _has_classes(task: Task) -> bool:
    return task.form in ("tagged", "choices") or (task.form == "texts" and task.labels is not None)


def _shown(task: Task, answer: Any) -> str:
    """Return an answer as it is read: endings are counted from 1."""
    return f"ending {int(answer) + 1}" if task.form == "choices" else str(answer)
