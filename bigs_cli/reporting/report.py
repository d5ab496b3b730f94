"""Runs as one page of HTML: what each is, gave and got wrong, and how those of one task compare."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError, listed
from bigs_cli.core.files import to_json
from bigs_cli.core.metric_names import metric_in_words, percent
from bigs_cli.core.wording import counted, without_folders
from bigs_cli.reporting import runs as reporting
from bigs_cli.reporting.page import Markup, details, element, html_table, page, picture
from bigs_cli.reporting.paired import Paired, example_table, paired_tables
from bigs_cli.reporting.plots.answers import draw_confusion, draw_scatter
from bigs_cli.reporting.plots.kernels import KERNELS_CAPTION, draw_kernels
from bigs_cli.reporting.plots.style import inline_svg
from bigs_cli.reporting.plots.training_curves import PRETRAINING, dev_keys, draw_course
from bigs_cli.reporting.plots.validation_curve import draw_learning
from bigs_cli.reporting.scores import BASELINE, Scores, scores_table
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import type_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Answered:
    """The dev set as a run answered it: the lines of its predictions.jsonl, and what they come to."""

    lines: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, float]
    """Fractions, by name."""
    right: Array | None
    """`[lines]` bool: which are wholly right; None of scores."""
    labels: Array | None
    """`[n]` ids or scores, as `predictions`; of tagged sentences, one a word. None: there are none to be confused."""
    predictions: Array | None


@dataclass(frozen=True)
class RunReport:
    """What the page says of a run; `task` is None for pretraining, the others where there is none (yet)."""

    name: str
    run: RunFolder
    task: Task | None
    entries: Sequence[Mapping[str, Any]]
    scores: Scores | None
    answered: Answered | None
    kernels: Array | None
    """`[layers, 2, L]`: see `pictures/kernels.py`."""


@dataclass(frozen=True)
class Comparison:
    """Two or more runs of one task, the first paired with each other; `notes` say why one is not."""

    title: str
    runs: Sequence[RunReport]
    paired: Sequence[Paired]
    notes: Sequence[str] = ()


def report(runs: Sequence[RunReport], comparisons: Sequence[Comparison], examples: int = 10) -> str:
    """Return the page, with at most `examples` examples in every list of them.

    Raises:
        RequestError: a file of a run is absent or garbled.
    """
    title = f"{'Run' if len(runs) == 1 else 'Runs'} {listed([each.name for each in runs], 4)}"
    numbers = itertools.count()
    parts: list[str] = [element("h1", title)]
    if len(runs) > 1:
        links = [(f"run-{i}", each.name) for i, each in enumerate(runs)]
        links += [(f"comparison-{i}", f"{each.title}, compared") for i, each in enumerate(comparisons)]
        items = (element("li", element("a", text, href=f"#{place}")) for place, text in links)
        overview = reporting.list_table([each.run for each in runs], [each.name for each in runs])
        parts += [element("nav", element("ul", *items)), html_table(overview)]
    for i, each in enumerate(runs):
        parts.append(element("section", *_of_run(each, len(runs) > 1, examples, numbers), id=f"run-{i}"))
    for i, comparison in enumerate(comparisons):
        parts.append(element("section", *_of_comparison(comparison, examples, numbers), id=f"comparison-{i}"))
    return page(title, *parts)


def _of_run(each: RunReport, titled: bool, examples: int, numbers: Iterator[int]) -> Iterator[Markup]:
    brief, *_ = reporting.summary(each.run)
    if titled:
        yield element("h2", each.name)
    brief.title = None  # The heading names the run.
    yield html_table(brief)
    if each.run.finished:
        yield element("h3", "Results")
        yield from _results(each)
    if each.entries:
        yield element("h3", "Course")
        yield _curves({each.name: each.entries}, each.task, numbers)
    if each.answered is not None and each.task is not None:
        yield element("h3", "Answers to the dev set")
        what, how = (
            ("Predictions against labels", "On the dashed line both are equal.")
            if each.task.labels is None
            else ("Confusion matrix", "Counts, and percent of the label's examples.")
        )
        if each.answered.labels is not None:
            svg = inline_svg(draw_answers(each.name, each.task, each.answered), next(numbers))
            yield picture(svg, what, how)
        yield from _wrong(each.task, each.answered, examples)
    if each.kernels is not None:
        yield element("h3", "What the layers look at")
        layers, _, L = each.kernels.shape
        yield picture(
            inline_svg(draw_kernels(each.kernels, f"{each.name}: convolution kernels"), next(numbers)),
            f"Convolution kernels of {counted(layers, 'layer')}, forward and backward, up to {L} tokens away",
            KERNELS_CAPTION,
        )
    if each.entries:
        yield details("Course in figures", html_table(reporting.course_table("", each.entries)))
    environment = without_folders(each.run.environment())
    yield details("Environment", element("pre", to_json(environment, indent=2)))
    yield details("Full recipe", element("pre", _recipe(each.run)))


def _results(each: RunReport) -> Iterator[Markup]:
    if each.task is None or each.scores is None:
        yield html_table(reporting.results_table(each.run))
        return
    ended = each.run.results()
    yield html_table(scores_table(each.task, each.scores))
    best = f"Measured at step {ended.get('step', 0):,} of {ended['steps']:,}, the best."
    published = ["Published: the full-size models, single runs."] if each.task.published else []
    yield element("p", " ".join([best, *published, *each.scores.sentences()]), class_="quiet")


def _recipe(run: RunFolder) -> str:
    """Return the recipe as it was written, but for absolute paths: the page is read elsewhere."""
    text = run.recipe_file.read_text(encoding="utf-8", errors="replace")
    values = yaml.safe_load(text)
    shortened = without_folders(values)
    return text if shortened == values else yaml.safe_dump(shortened, sort_keys=False, allow_unicode=True)


def _curves(runs: Mapping[str, Sequence[Mapping[str, Any]]], task: Task | None, numbers: Iterator[int]) -> Markup:
    names = ", ".join(runs)
    if task is not None and all(dev_keys({name: entries}) for name, entries in runs.items()):
        svg = inline_svg(draw_learning(runs, task.metrics[0], task.title), next(numbers))
        note = f"A ring marks the best {metric_in_words(task.metrics[0])}, whose checkpoint is kept."
        return picture(svg, f"Dev metrics and loss over the steps of {names}", note)
    objectives = dict.fromkeys(runs, PRETRAINING if task is None else task.title)
    svg = inline_svg(draw_course(runs, objectives), next(numbers))
    return picture(svg, f"Loss, learning rate and throughput of {names}")


def draw_answers(name: str, task: Task, answered: Answered) -> Figure:
    """Draw the confusion matrix of a task with classes, of words where it tags them, or the scatter of one with scores.

    Raises:
        RequestError: it has neither.
    """
    labels, predictions = answered.labels, answered.predictions
    if labels is None or predictions is None:
        raise RequestError(f"{task.title} has no classes or scores that could be set against each other.")
    count = counted(len(labels), type_of(task).unit)
    title = f"{name}: {task.title}, dev, {count}"
    if task.labels is None:
        correlations = (f"{metric_in_words(key)} {percent(value, 1)}%" for key, value in answered.metrics.items())
        return draw_scatter(labels, predictions, f"{title}\n{', '.join(correlations)}")
    right, most = float((labels == predictions).mean()), np.bincount(labels, minlength=len(task.labels))
    always = f"always “{task.labels[most.argmax()]}”: {percent(most.max() / len(labels), 1)}%"
    lines = [title, f"{percent(right, 1)}% right; {BASELINE}, {always}"]
    if (predictions == predictions[0]).all():
        lines.append("The model gives only one answer.")
    return draw_confusion(labels, predictions, task.labels, "\n".join(lines))


def _wrong(task: Task, answered: Answered, examples: int) -> Iterator[Markup]:
    """Yield the worst answers: scores by their error, tags by the wrong ones, others by the probability they got."""
    kind, wrong = type_of(task).error_size, np.arange(len(answered.lines))
    if answered.right is not None:
        wrong = np.flatnonzero(~answered.right)
    lines = [answered.lines[i] for i in wrong.tolist()]
    sizes = np.array([kind.of(line) for line in lines])
    order = np.argsort(-sizes, kind="stable")[:examples]
    if len(order):
        title = kind.title if answered.right is None else f"{kind.title}: {len(order)} of {len(wrong):,}"
        cells = [kind.text(sizes[i].item()) for i in order]
        rows = [[lines[i]] for i in order]
        yield html_table(example_table(title, rows, ["prediction"], further={kind.column: cells}))


def _of_comparison(comparison: Comparison, examples: int, numbers: Iterator[int]) -> Iterable[Markup]:
    runs = comparison.runs
    yield element("h2", f"{comparison.title}, compared")
    recipes, environments, data, results = reporting.compare([each.run for each in runs])
    yield html_table(results)
    with_course = {each.name: each.entries for each in runs if each.entries}
    if with_course:
        yield _curves(with_course, runs[0].task, numbers)
    for note in comparison.notes:
        yield element("p", note, class_="quiet")
    for paired in comparison.paired:
        yield element("h3", f"{paired.names[0]} and {paired.names[1]} on the same examples")
        for made in paired_tables(paired, examples):
            yield html_table(made)
    yield html_table(recipes)
    yield html_table(data)
    yield details("Environments", html_table(environments))
