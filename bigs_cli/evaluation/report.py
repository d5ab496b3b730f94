"""The HTML report: the summary, results, plots and worst predictions of runs, and comparisons of runs of a task."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.checkpoints.checksums import steps
from bigs_cli.checkpoints.resolve import find_model, open_model
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError, listed
from bigs_cli.core.files import to_json
from bigs_cli.core.metric_names import metric_in_words, percent
from bigs_cli.core.wording import counted, without_folders
from bigs_cli.evaluation.paired import Paired, example_table, pair, paired_tables
from bigs_cli.evaluation.predictions import of_split, read_predictions, scores_of_run
from bigs_cli.evaluation.sweep import Sweep
from bigs_cli.recipe.source import dump, read_value
from bigs_cli.reporting import runs as reporting
from bigs_cli.reporting.metrics_log import read_metrics
from bigs_cli.reporting.page import Markup, details, element, figure, html_table, page
from bigs_cli.reporting.plots.curves import PRETRAINING, dev_keys, draw_training_curves, draw_validation_curve
from bigs_cli.reporting.plots.kernels import KERNELS_CAPTION, draw_kernels, layer_kernels
from bigs_cli.reporting.plots.predictions import draw_confusion, draw_scatter
from bigs_cli.reporting.plots.recipes import draw_recipes
from bigs_cli.reporting.plots.style import inline_svg
from bigs_cli.reporting.runs import short_names, task_of_run
from bigs_cli.reporting.scores import BASELINE, Scores, scores_table
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import type_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class DevPredictions:
    """The predictions of a run for the dev set: the lines of its predictions.jsonl, and their metrics."""

    lines: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, float]
    """Fractions, by name."""
    right: Array | None
    """`[lines]` bool: which lines are entirely correct; None in regression."""
    labels: Array | None
    """`[n]` class ids or scores, like `predictions`; one per word for tagged sentences. None if there are neither."""
    predictions: Array | None


@dataclass(frozen=True)
class RunReport:
    """The content of a run's section; `task` is None for pretraining, other fields are None where not available."""

    name: str
    run: RunFolder
    task: Task | None
    entries: Sequence[Mapping[str, Any]]
    scores: Scores | None
    dev: DevPredictions | None
    kernels: Array | None
    """`[layers, 2, L]`: see `plots/kernels.py`."""


@dataclass(frozen=True)
class Comparison:
    """Runs of one task, with the first paired with each of the others; `notes` say why a pair is missing."""

    title: str
    runs: Sequence[RunReport]
    paired: Sequence[Paired]
    notes: Sequence[str] = ()


def report(
    runs: Sequence[RunReport],
    comparisons: Sequence[Comparison],
    examples: int = 10,
    sweeps: Mapping[str, Sweep] | None = None,
) -> str:
    """Return the HTML report, with at most `examples` examples in each table; `sweeps` are named.

    Raises:
        RequestError: a file of a run is missing or invalid.
    """
    title = f"{'Run' if len(runs) == 1 else 'Runs'} {listed([each.name for each in runs], 4)}"
    numbers = itertools.count()
    parts: list[str] = [element("h1", title)]
    if len(runs) > 1:
        links = [(f"run-{i}", each.name) for i, each in enumerate(runs)]
        links += [(f"comparison-{i}", f"{each.title}, compared") for i, each in enumerate(comparisons)]
        items = (element("li", element("a", text, href=f"#{anchor}")) for anchor, text in links)
        overview = reporting.list_table([each.run for each in runs], [each.name for each in runs])
        parts += [element("nav", element("ul", *items)), html_table(overview)]
    for name, sweep in (sweeps or {}).items():
        parts.append(element("section", *sweep_section(name, sweep, numbers)))
    for i, each in enumerate(runs):
        parts.append(element("section", *run_section(each, len(runs) > 1, examples, numbers), id=f"run-{i}"))
    for i, comparison in enumerate(comparisons):
        parts.append(element("section", *_comparison_section(comparison, examples, numbers), id=f"comparison-{i}"))
    return page(title, *parts)


def sweep_section(name: str, sweep: Sweep, numbers: Iterator[int]) -> Iterator[Markup]:
    """Yield what is shown of a sweep."""
    yield element("h2", f"Sweep {name}")
    yield html_table(sweep.table(""))
    for note in sweep.notes():
        yield element("p", note, class_="quiet")
    svg = inline_svg(draw_recipes(sweep.measures), next(numbers))
    yield figure(svg, f"Results of the settings of {name}", "A dot for each seed, and a bar for their mean.")


def run_section(each: RunReport, titled: bool, examples: int, numbers: Iterator[int]) -> Iterator[Markup]:
    """Yield what is shown of one run; see `report`. `numbers` tells its plots apart."""
    summary, *_ = reporting.summary(each.run)
    if titled:
        yield element("h2", each.name)
    summary.title = None  # The heading names the run.
    yield html_table(summary)
    if each.run.finished:
        yield element("h3", "Results")
        yield from _results(each)
    if each.entries:
        yield element("h3", "Training curves")
        yield _curves({each.name: each.entries}, each.task, numbers)
    if each.dev is not None and each.task is not None:
        yield element("h3", "Predictions on the dev set")
        description, caption = (
            ("Predictions against labels", "On the dashed line, prediction and label are equal.")
            if each.task.labels is None
            else ("Confusion matrix", "Counts, and percentages of the examples with each label.")
        )
        if each.dev.labels is not None:
            svg = inline_svg(draw_predictions(each.name, each.task, each.dev), next(numbers))
            yield figure(svg, description, caption)
        yield from _worst_predictions(each.task, each.dev, examples)
    if each.kernels is not None:
        yield element("h3", "Convolution kernels")
        layers, _, L = each.kernels.shape
        yield figure(
            inline_svg(draw_kernels(each.kernels, f"{each.name}: convolution kernels"), next(numbers)),
            f"Convolution kernels of {counted(layers, 'layer')}, forward and backward, up to {L} tokens away",
            KERNELS_CAPTION,
        )
    if each.entries:
        yield details("Training curves as a table", html_table(reporting.curves_table("", each.entries)))
    environment = without_folders(each.run.environment())
    yield details("Environment", element("pre", to_json(environment, indent=2)))
    yield details("Full recipe", element("pre", _recipe(each.run)))


def _results(each: RunReport) -> Iterator[Markup]:
    if each.task is None or each.scores is None:
        yield html_table(reporting.results_table(each.run))
        return
    results = each.run.results()
    yield html_table(scores_table(each.task, each.scores))
    best = f"These are the scores of the best checkpoint, step {results.get('step', 0):,} of {results['steps']:,}."
    published = (
        ["The published scores are those of single runs of the full-size models."] if each.task.published else []
    )
    yield element("p", " ".join([best, *published, *each.scores.sentences()]), class_="quiet")


def _recipe(run: RunFolder) -> str:
    """Return the recipe file, with absolute paths shortened to their last part."""
    text = run.recipe_file.read_text(encoding="utf-8", errors="replace")
    values, _ = read_value(text, str(run.recipe_file))
    portable = without_folders(values)
    return text if portable == values else dump(portable)


def _curves(runs: Mapping[str, Sequence[Mapping[str, Any]]], task: Task | None, numbers: Iterator[int]) -> Markup:
    names = ", ".join(runs)
    if task is not None and all(dev_keys({name: entries}) for name, entries in runs.items()):
        svg = inline_svg(draw_validation_curve(runs, task.metrics[0], task.title), next(numbers))
        note = f"The circle marks the best {metric_in_words(task.metrics[0])}; its checkpoint is kept."
        return figure(svg, f"Dev metrics and loss over the steps of {names}", note)
    objectives = dict.fromkeys(runs, PRETRAINING if task is None else task.title)
    svg = inline_svg(draw_training_curves(runs, objectives), next(numbers))
    return figure(svg, f"Loss, learning rate and throughput of {names}")


def draw_predictions(name: str, task: Task, dev: DevPredictions) -> Figure:
    """Draw the confusion matrix of a task with classes or tags, or the scatter plot of a regression task.

    Raises:
        RequestError: the task is none of these.
    """
    labels, predictions = dev.labels, dev.predictions
    if labels is None or predictions is None:
        raise RequestError(f"{task.title} has no classes or scores to plot.")
    count = counted(len(labels), type_of(task).unit)
    title = f"{name}: {task.title}, dev, {count}"
    if task.labels is None:
        correlations = (f"{metric_in_words(key)} {percent(value, 1)}%" for key, value in dev.metrics.items())
        return draw_scatter(labels, predictions, f"{title}\n{', '.join(correlations)}")
    accuracy, counts = float((labels == predictions).mean()), np.bincount(labels, minlength=len(task.labels))
    always = f"always “{task.labels[counts.argmax()]}”: {percent(counts.max() / len(labels), 1)}%"
    lines = [title, f"{percent(accuracy, 1)}% correct; {BASELINE}, {always}"]
    if (predictions == predictions[0]).all():
        lines.append("All predictions are the same.")
    return draw_confusion(labels, predictions, task.labels, "\n".join(lines))


def _worst_predictions(task: Task, dev: DevPredictions, examples: int) -> Iterator[Markup]:
    """Yield a table of the worst predictions, ranked by the `error_ranking` of the task type."""
    task_type, wrong = type_of(task), np.arange(len(dev.lines))
    kind = task_type.error_ranking
    if kind is None:
        return
    if dev.right is not None:
        wrong = np.flatnonzero(~dev.right)
    lines = [dev.lines[i] for i in wrong.tolist()]
    sizes = np.array([kind.of(line) for line in lines])
    order = np.argsort(-sizes, kind="stable")[:examples]
    if len(order):
        title = kind.title if dev.right is None else f"{kind.title}: {len(order)} of {len(wrong):,}"
        cells = [kind.text(sizes[i].item()) for i in order]
        rows = [[lines[i]] for i in order]
        yield html_table(example_table(task_type, title, rows, ["prediction"], further={kind.column: cells}))


def _comparison_section(comparison: Comparison, examples: int, numbers: Iterator[int]) -> Iterable[Markup]:
    runs = comparison.runs
    yield element("h2", f"{comparison.title}, compared")
    recipes, environments, data, results = reporting.compare([each.run for each in runs])
    yield html_table(results)
    logged = {each.name: each.entries for each in runs if each.entries}
    if logged:
        yield _curves(logged, runs[0].task, numbers)
    for note in comparison.notes:
        yield element("p", note, class_="quiet")
    for paired in comparison.paired:
        yield element("h3", f"{paired.names[0]} and {paired.names[1]} on the same examples")
        yield from map(html_table, paired_tables(paired, examples))
    yield html_table(recipes)
    yield html_table(data)
    yield details("Environments", html_table(environments))


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
    reports = [report_on(name, run, kernel_length) for name, run in zip(short_names(runs), runs, strict=True)]
    groups: dict[str, list[RunReport]] = {}
    for each in reports:
        groups.setdefault("Pretraining" if each.task is None else each.task.title, []).append(each)
    comparisons = []
    for title, group in groups.items():
        if len(group) > 1:
            paired, notes = paired_with_first([(each.name, each.run) for each in group])
            comparisons.append(Comparison(title, group, paired, notes))
    return reports, comparisons


def report_on(name: str, run: RunFolder, kernel_length: int | None) -> RunReport:
    """Return the report data of a run, without kernels if `kernel_length` is None.

    Raises:
        RequestError: its recipe, metrics log or results are invalid.
    """
    task, dev, kernels = task_of_run(run), None, None
    if task is not None and run.predictions_file.is_file():
        dev = dev_predictions(run, task)
    if kernel_length is not None and (steps(run.best) or steps(run.checkpoints)):
        opened = open_model(find_model(str(run.path)))
        if not opened.config.attends:
            kernels = layer_kernels(opened.flat, opened.config, kernel_length)
    scores = scores_of_run(task, run) if task is not None and run.finished else None
    return RunReport(name, run, task, read_metrics(run.metrics_file), scores, dev, kernels)
