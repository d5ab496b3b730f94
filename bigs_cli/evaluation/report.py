"""Reads run folders for the report of runs (`reporting/report.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from bigs_cli.checkpoints.checksums import steps
from bigs_cli.checkpoints.resolve import find_model, open_model
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.baselines import scores_of_run
from bigs_cli.evaluation.paired import pair
from bigs_cli.evaluation.predictions import of_split, read_predictions
from bigs_cli.reporting.metrics_log import read_metrics
from bigs_cli.reporting.paired import Paired
from bigs_cli.reporting.plots.kernels import layer_kernels
from bigs_cli.reporting.report import Answered, Comparison, RunReport
from bigs_cli.reporting.runs import short_names, task_of_run
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import type_of


def answered_by(run: RunFolder, task: Task) -> Answered:
    """Return what a run answered to the dev set.

    Raises:
        RequestError: there are no predictions yet, or they are garbled.
    """
    if not run.predictions_file.is_file():
        raise RequestError(f"{run.path} has no predictions.jsonl: nothing was measured on the dev set yet.")
    lines = of_split(read_predictions(run.predictions_file), "dev")
    if not lines:
        raise RequestError(f"{run.predictions_file} holds no predictions of the dev set.")
    task_type = type_of(task)
    scores = task_type.example_scores(lines)
    labels, predictions = task_type.label_pairs(lines) or (None, None)
    return Answered(lines, scores.all_metrics(), scores.right, labels, predictions)


def paired_with_first(runs: Sequence[tuple[str, RunFolder]]) -> tuple[list[Paired], list[str]]:
    """Pair the first of `runs`, each with its name, with each other one of its task that has predictions.

    Returned are also sentences that say why one cannot be paired; pretraining runs have nothing to be paired.
    """
    (first_name, first), *others = runs
    task, found, notes = task_of_run(first), [], []
    for name, run in others:
        if task is None or task_of_run(run) != task:
            continue
        both = ((first_name, first), (name, run))
        absent = [which for which, each in both if not each.predictions_file.is_file()]
        if absent:
            notes.append(f"No paired test of {first_name} and {name}: {absent[0]} has no predictions.jsonl.")
            continue
        try:
            lines = read_predictions(first.predictions_file), read_predictions(run.predictions_file)
            found.append(pair(task, (first_name, name), lines))
        except RequestError as error:
            notes.append(reduce(lambda text, each: text.replace(str(each[1].path), each[0]), both, str(error)))
    return found, notes


def gather(runs: Sequence[RunFolder], kernel_length: int) -> tuple[list[RunReport], list[Comparison]]:
    """Return what is known of each run, and the comparisons of those of one task.

    Raises:
        RequestError: a recipe, the course or the results of a run are garbled.
    """
    reports = [_of_run(name, run, kernel_length) for name, run in zip(short_names(runs), runs, strict=True)]
    groups: dict[str, list[RunReport]] = {}
    for each in reports:
        groups.setdefault("Pretraining" if each.task is None else each.task.title, []).append(each)
    comparisons = []
    for title, group in groups.items():
        if len(group) > 1:
            paired, notes = paired_with_first([(each.name, each.run) for each in group])
            comparisons.append(Comparison(title, group, paired, notes))
    return reports, comparisons


def _of_run(name: str, run: RunFolder, kernel_length: int) -> RunReport:
    task, answered, kernels = task_of_run(run), None, None
    if task is not None and run.predictions_file.is_file():
        answered = answered_by(run, task)
    if steps(run.best) or steps(run.checkpoints):
        opened = open_model(find_model(str(run.path)))
        kernels = layer_kernels(opened.flat, opened.config, kernel_length)
    scores = scores_of_run(task, run) if task is not None and run.finished else None
    return RunReport(name, run, task, read_metrics(run.metrics_file), scores, answered, kernels)
