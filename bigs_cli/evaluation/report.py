"""Reads run folders for the HTML report (`reporting/report.py`)."""

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
from bigs_cli.reporting.report import Comparison, DevPredictions, RunReport
from bigs_cli.reporting.runs import short_names, task_of_run
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import type_of


def dev_predictions(run: RunFolder, task: Task) -> DevPredictions:
    """Return the predictions of a run for the dev set.

    Raises:
        RequestError: there are no predictions yet, or they are invalid.
    """
    if not run.predictions_file.is_file():
        raise RequestError(f"{run.path} has no predictions.jsonl: it was not evaluated on the dev set yet.")
    lines = of_split(read_predictions(run.predictions_file), "dev")
    if not lines:
        raise RequestError(f"{run.predictions_file} contains no predictions of the dev set.")
    task_type = type_of(task)
    scores = task_type.example_scores(lines)
    labels, predictions = task_type.label_pairs(lines) or (None, None)
    return DevPredictions(lines, scores.all_metrics(), scores.right, labels, predictions)


def paired_with_first(runs: Sequence[tuple[str, RunFolder]]) -> tuple[list[Paired], list[str]]:
    """Compare the first of the named `runs` with each other run of its task that has predictions.

    Also return sentences that say why a pair is missing. Pretraining runs are not compared.
    """
    (first_name, first), *others = runs
    task, comparisons, notes = task_of_run(first), [], []
    for name, run in others:
        if task is None or task_of_run(run) != task:
            continue
        both = ((first_name, first), (name, run))
        missing = [label for label, each in both if not each.predictions_file.is_file()]
        if missing:
            notes.append(f"No paired test of {first_name} and {name}: {missing[0]} has no predictions.jsonl.")
            continue
        try:
            lines = read_predictions(first.predictions_file), read_predictions(run.predictions_file)
            comparisons.append(pair(task, (first_name, name), lines))
        except RequestError as error:
            notes.append(reduce(lambda text, each: text.replace(str(each[1].path), each[0]), both, str(error)))
    return comparisons, notes


def gather(runs: Sequence[RunFolder], kernel_length: int) -> tuple[list[RunReport], list[Comparison]]:
    """Return the report data of each run, and the comparisons of runs of the same task.

    Raises:
        RequestError: a recipe, a metrics log or the results of a run are invalid.
    """
    reports = [_run_report(name, run, kernel_length) for name, run in zip(short_names(runs), runs, strict=True)]
    groups: dict[str, list[RunReport]] = {}
    for each in reports:
        groups.setdefault("Pretraining" if each.task is None else each.task.title, []).append(each)
    comparisons = []
    for title, group in groups.items():
        if len(group) > 1:
            paired, notes = paired_with_first([(each.name, each.run) for each in group])
            comparisons.append(Comparison(title, group, paired, notes))
    return reports, comparisons


def _run_report(name: str, run: RunFolder, kernel_length: int) -> RunReport:
    task, dev, kernels = task_of_run(run), None, None
    if task is not None and run.predictions_file.is_file():
        dev = dev_predictions(run, task)
    if steps(run.best) or steps(run.checkpoints):
        opened = open_model(find_model(str(run.path)))
        kernels = layer_kernels(opened.flat, opened.config, kernel_length)
    scores = scores_of_run(task, run) if task is not None and run.finished else None
    return RunReport(name, run, task, read_metrics(run.metrics_file), scores, dev, kernels)
