"""Runs as a person reads them: what one is and did, and in what several differ."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from bigs_cli.checkpoints.checksums import steps
from bigs_cli.checkpoints.run import RunFolder, runs_root
from bigs_cli.core.errors import RequestError
from bigs_cli.core.metric_names import by_split, is_fraction, key_in_words, log_key, percent
from bigs_cli.core.wording import counted, shortened, without_folders
from bigs_cli.recipe import FinetuneRecipe, Recipe, load_run_recipe
from bigs_cli.reporting.console import table
from bigs_cli.reporting.metrics_log import curve, read_metrics
from bigs_cli.reporting.scores import Scores, scores_table
from bigs_cli.reporting.sparkline import sparkline
from bigs_cli.tasks import task_of
from bigs_cli.tasks.task import Task

Entries = Sequence[Mapping[str, Any]]

# What is shown of a run's course, in this order; dev_… and other figures follow.
_FIRST = ("loss", "heldout_loss", "accuracy", "heldout_accuracy", "learning_rate", "grad_norm", "tokens_per_second")
# What results.json has besides metrics, under the names that people read.
_ENDED = {"step": "best step", "steps": "steps", "seconds": "seconds", "parameters": "parameters"}
_ABSENT = object()


def state(run: RunFolder, recipe: Recipe, entries: Entries) -> str:
    """Return how far the run is: finished, running, or stopped, and after which step."""
    if run.finished:
        return "finished"
    of_all = f" of {recipe.steps:,}" if not isinstance(recipe, FinetuneRecipe) else ""
    reached = _reached(run, entries)
    done = f"step {reached:,}{of_all}" if reached else "before its first step"
    return f"running, {done}" if run.running else f"not finished, {done}"


def _reached(run: RunFolder, entries: Entries) -> int:
    """Return the last step that was logged or saved: a run stops between two entries of its log too."""
    return max([0, *(entry["step"] for entry in entries[-1:]), *steps(run.checkpoints)])


def task_of_run(run: RunFolder) -> Task | None:
    """Return the task that a run was fine-tuned for; None for pretraining."""
    recipe = load_run_recipe(run.recipe_file)
    return task_of(recipe) if isinstance(recipe, FinetuneRecipe) else None


def headline(run: RunFolder, recipe: Recipe) -> str:
    """Return the figure a finished run is known by, with its name; nothing where results.json lacks it.

    Raises:
        RequestError: results.json is garbled.
    """
    key = log_key("dev", task_of(recipe).metrics[0]) if isinstance(recipe, FinetuneRecipe) else "heldout_loss"
    value = _metrics(run.results()).get(key)
    return "" if value is None else f"{key_in_words(key)} {format_value(key, value)}"


def list_table(runs: Iterable[RunFolder], names: Sequence[str] | None = None) -> Table:
    """Return a table of `runs`, one row each, under `names` or those that find them again.

    A run that cannot be read says so in its row.
    """
    runs = list(runs)
    made = table("", "run", "kind", "task", "state", "result", right=("result",))
    for run, name in zip(runs, names or [display_name(run) for run in runs], strict=True):
        try:
            recipe = load_run_recipe(run.recipe_file)
            task = recipe.task if isinstance(recipe, FinetuneRecipe) else "mlm"
            ended = headline(run, recipe) if run.finished else ""
        except RequestError:
            made.add_row(name, "", "", f"cannot be read: bigs runs show {shlex.quote(name)}", "")
            continue
        state = "finished" if run.finished else "running" if run.running else "not finished"
        made.add_row(name, recipe.kind, task, state, ended)
    return made


def summary(run: RunFolder, scores: Scores | None = None) -> list[Table]:
    """Return what `bigs runs show` prints: the recipe in brief, the results, and the course.

    `scores` are those of a fine-tuning with its baselines (`evaluation/baselines.py`).

    Raises:
        RequestError: a file of the run is garbled.
    """
    recipe, entries = load_run_recipe(run.recipe_file), read_metrics(run.metrics_file)
    brief = _pairs(display_name(run))
    for name, value in (("state", state(run, recipe, entries)), *_brief(recipe)):
        brief.add_row(name, value)
    tables = [brief]
    if scores is not None and isinstance(recipe, FinetuneRecipe):
        tables.append(scores_table(task_of(recipe), scores))
    if run.finished:
        tables.append(results_table(run, metrics=scores is None))
    return [*tables, course_table("course", entries)] if entries else tables


def results_table(run: RunFolder, metrics: bool = True) -> Table:
    """Return a table of what a run ended with, or of where one that is not finished stands.

    Raises:
        RequestError: a file of the run is garbled.
    """
    ended = _pairs("results" if metrics else "")
    for name, value in _results(run, metrics).items():
        ended.add_row(name, value)
    return ended


def course_table(title: str, entries: Entries, names: Sequence[str] | None = None) -> Table:
    """Return a table of curves: the lowest, the highest and the last value, and a sparkline."""
    right = ("lowest", "highest", "last")
    made = table(title, "", *right, "course", right=right)
    for name in names or _curves(entries):
        _, values = curve(entries, name)
        if values:
            # Rates are read against zero: a dip of a percent is not to look like a halt.
            line = sparkline(values, low=0.0 if name == "tokens_per_second" else None)
            cells = (format_value(name, value) for value in (min(values), max(values), values[-1]))
            made.add_row(key_in_words(name), *cells, line)
    return made


def compare(runs: Sequence[RunFolder]) -> tuple[Table, Table, Table, Table]:
    """Return the differences of `runs`: of recipes, environments and data by key, and their results side by side.

    The data of a run are known once it is finished: results.json has their digests.

    Raises:
        RequestError: a file of a run is absent or garbled.
    """
    names = short_names(runs)

    def differences(title: str, read: Callable[[RunFolder], Mapping[str, Any]]) -> Table:
        values = [_flat(read(run)) for run in runs]
        made = table(title, "", *names)
        for key in dict.fromkeys(key for of_one in values for key in of_one):
            of_all = [of_one.get(key, _ABSENT) for of_one in values]
            if any(one != of_all[0] for one in of_all):
                made.add_row(key, *(_as_written(key, one) for one in shortened(of_all)))
        return made

    recipes = differences(
        "recipes", lambda run: load_run_recipe(run.recipe_file).model_dump(mode="json", by_alias=True)
    )
    # What the command asked for is in the recipe.
    environments = differences(
        "environments", lambda run: {name: value for name, value in run.environment().items() if name != "command"}
    )
    data = differences("data", lambda run: run.results().get("data", {}) if run.finished else {})
    for made in (recipes, environments, data):
        if not made.row_count:
            made.title = f"{made.title}: no difference"
            made.show_header = False
    if not all(run.finished for run in runs) and not data.row_count:
        data.title = "data: not known before a run is finished"
    ended = [_results(run) for run in runs]
    results = table("results", "", *names, right=names)
    for name in dict.fromkeys(name for of_one in ended for name in of_one):
        results.add_row(name, *(of_one.get(name, "–") for of_one in ended))
    return recipes, environments, data, results


def format_value(key: str, value: Any) -> str:
    """Return a number of results.json or metrics.jsonl as people read it: fractions in percent; None was not finite."""
    if value is None:
        return "–"
    if is_fraction(key):
        return f"{percent(value)}%"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    if isinstance(value, float):
        whole = key in ("seconds", "tokens_per_second") or abs(value) >= 1000
        return f"{value:,.0f}" if whole else f"{value:.4f}" if abs(value) >= 0.01 else f"{value:.3g}"
    return str(value)


def _as_written(key: str, value: Any) -> str:
    """Return a value of a recipe or an environment in full: what differs in files is not to look the same."""
    if value is _ABSENT:
        return "–"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float) and not key.endswith("seed"):
        return f"{value:,}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _results(run: RunFolder, metrics: bool = True) -> dict[str, str]:
    """Return the figures a run ended with, by name; of one that is not finished its last measured ones."""
    if run.finished:
        ended = run.results()
        found: dict[str, Any] = _metrics(ended) if metrics else {}
        found |= {name: ended[name] for name in _ENDED if name in ended}
        return {_ENDED.get(key) or key_in_words(key): format_value(key, value) for key, value in found.items()}
    entries = read_metrics(run.metrics_file)
    last = {key: curve(entries, key)[1][-1] for key in _curves(entries) if key.startswith(("heldout_", "dev_"))}
    return {key_in_words(key): format_value(key, value) for key, value in last.items()} | {
        "steps": f"{_reached(run, entries):,} (not finished)"
    }


def _metrics(results: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the metrics in results.json by the keys that metrics.jsonl has for them."""
    if results.get("kind") == "pretrain" or "task" not in results:
        return dict(results["metrics"])
    return {log_key(split, name): value for split, of in by_split(results).items() for name, value in of.items()}


def _brief(recipe: Recipe) -> list[tuple[str, str]]:
    start = without_folders(recipe.from_) or "a fresh model"
    optimizer, schedule = recipe.optimizer, recipe.schedule
    steps, fraction = schedule.warmup_steps, schedule.warmup_fraction
    warmup = f"{fraction or 0:.0%}" if steps is None else counted(steps, "step")
    last = [
        ("learning rate", f"{optimizer.learning_rate:g}, {schedule.kind} after {warmup} of warmup"),
        ("arithmetic", f"{recipe.compute.dtype}, mixing {recipe.compute.mixing}"),
        ("seed", str(recipe.seed)),
    ]
    if isinstance(recipe, FinetuneRecipe):
        return [
            ("kind", f"fine-tuning on {task_of(recipe).title}"),
            ("from", start),
            ("batches", f"{recipe.batch_size} × {recipe.sequence_length} tokens, {counted(recipe.epochs, 'epoch')}"),
            *last,
        ]
    model = recipe.model
    layers = counted(model.num_hidden_layers, "layer")
    size = f"{layers}, H {model.hidden_size}, I {model.intermediate_size}, N {model.num_ssm}"
    return [
        ("kind", "pretraining"),
        ("model", f"{size}, vocabulary {model.vocab_size:,}"),
        ("from", start),
        ("data", without_folders(recipe.data.path)),
        ("batches", f"{recipe.batch_size} × {recipe.data.sequence_length} tokens, {counted(recipe.steps, 'step')}"),
        *last,
    ]


def _curves(entries: Entries) -> list[str]:
    """Return the names of what is logged: the usual ones first, the others in the order they came."""
    logged = dict.fromkeys(name for entry in entries for name in entry if name != "step")
    return [name for name in _FIRST if name in logged] + [name for name in logged if name not in _FIRST]


def short_names(runs: Sequence[RunFolder]) -> tuple[str, ...]:
    """Return the folders' own names, of one of several seeds with the folder of all (``mrpc/seed-42``).

    Where two have the same, return as much of the paths as tells all apart.
    """
    paths = [run.path.resolve() for run in runs]
    names = tuple("/".join(path.parts[-2 if path.name.startswith("seed-") else -1 :]) for path in paths)
    return names if len(set(names)) == len(names) else tuple(shortened([str(path) for path in paths]))


def display_name(run: RunFolder) -> str:
    """Return the name under which `find_run` finds a run: under the runs folder, or from the working directory."""
    path, root = run.path.absolute(), runs_root().absolute()
    return str(path.relative_to(root)) if path != root and path.is_relative_to(root) else os.path.relpath(path)


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{before}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _pairs(title: str) -> Table:
    made = table(title, "what", "value")
    made.show_header = False
    return made
