"""Tables about runs: the list of runs, the summary of one, and the differences between several."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from bigs_cli.checkpoints.checksums import steps
from bigs_cli.checkpoints.run import RunFolder, runs_root
from bigs_cli.core.errors import RequestError
from bigs_cli.core.metric_names import is_fraction, key_in_words, log_key, metrics_by_key, percent
from bigs_cli.core.wording import counted, shortened, without_folders
from bigs_cli.recipe import FinetuneRecipe, Recipe, load_run_recipe
from bigs_cli.reporting.console import sparkline, table
from bigs_cli.reporting.metrics_log import curve, read_metrics
from bigs_cli.reporting.scores import Scores, scores_table
from bigs_cli.tasks import task_of
from bigs_cli.tasks.task import Task

Entries = Sequence[Mapping[str, Any]]

# The order of the training curves in tables; dev_… and other values follow.
_FIRST = ("loss", "heldout_loss", "accuracy", "heldout_accuracy", "learning_rate", "grad_norm", "tokens_per_second")
# Values of results.json besides the metrics, and their names in tables.
_RESULT_NAMES = {"step": "best step", "steps": "steps", "seconds": "seconds", "parameters": "parameters"}
_ABSENT = object()


def state(run: RunFolder, recipe: Recipe, entries: Entries) -> str:
    """Return the state of the run: finished, running or not finished, and the step that it reached."""
    if run.finished:
        return "finished"
    total = f" of {recipe.steps:,}" if not isinstance(recipe, FinetuneRecipe) else ""
    step = _last_step(run, entries)
    progress = f"step {step:,}{total}" if step else "before its first step"
    return f"running, {progress}" if run.running else f"not finished, {progress}"


def _last_step(run: RunFolder, entries: Entries) -> int:
    """Return the last step that was logged or saved; a run can stop between two log entries."""
    return max([0, *(entry["step"] for entry in entries[-1:]), *steps(run.checkpoints)])


def task_of_run(run: RunFolder) -> Task | None:
    """Return the task of a fine-tuning run; None for a pretraining run."""
    recipe = load_run_recipe(run.recipe_file)
    return task_of(recipe) if isinstance(recipe, FinetuneRecipe) else None


def headline(run: RunFolder, recipe: Recipe) -> str:
    """Return the main metric of a finished run with its name, or "" if results.json lacks it.

    Raises:
        RequestError: results.json is invalid.
    """
    key = log_key("dev", task_of(recipe).metrics[0]) if isinstance(recipe, FinetuneRecipe) else "heldout_loss"
    value = metrics_by_key(run.results()).get(key)
    return "" if value is None else f"{key_in_words(key)} {format_value(key, value)}"


def list_table(runs: Iterable[RunFolder], names: Sequence[str] | None = None) -> Table:
    """Return a table of `runs`, one row each, with the given `names` or those that `find_run` accepts.

    The row of an unreadable run says so.
    """
    runs = list(runs)
    result = table("", "run", "kind", "task", "state", "result", right=("result",))
    for run, name in zip(runs, names or [display_name(run) for run in runs], strict=True):
        try:
            recipe = load_run_recipe(run.recipe_file)
            task = recipe.task if isinstance(recipe, FinetuneRecipe) else "mlm"
            metric = headline(run, recipe) if run.finished else ""
        except RequestError:
            result.add_row(name, "", "", f"cannot be read: bigs runs show {shlex.quote(name)}", "")
            continue
        state = "finished" if run.finished else "running" if run.running else "not finished"
        result.add_row(name, recipe.kind, task, state, metric)
    return result


def summary(run: RunFolder, scores: Scores | None = None) -> list[Table]:
    """Return the tables of `bigs runs show`: a summary of the recipe, the results, and the training curves.

    `scores` are those of a fine-tuning run with its baselines (`evaluation/predictions.py`).

    Raises:
        RequestError: a file of the run is invalid.
    """
    recipe, entries = load_run_recipe(run.recipe_file), read_metrics(run.metrics_file)
    brief = _key_value_table(display_name(run))
    for name, value in (("state", state(run, recipe, entries)), *_brief(recipe)):
        brief.add_row(name, value)
    tables = [brief]
    if scores is not None and isinstance(recipe, FinetuneRecipe):
        tables.append(scores_table(task_of(recipe), scores))
    if run.finished:
        tables.append(results_table(run, metrics=scores is None))
    return [*tables, curves_table("training curves", entries)] if entries else tables


def results_table(run: RunFolder, metrics: bool = True) -> Table:
    """Return a table of the results of a run; for an unfinished one, of its last logged values.

    Raises:
        RequestError: a file of the run is invalid.
    """
    result = _key_value_table("results" if metrics else "")
    for name, value in _results(run, metrics).items():
        result.add_row(name, value)
    return result


def curves_table(title: str, entries: Entries, names: Sequence[str] | None = None) -> Table:
    """Return a table of training curves: the lowest, the highest and the last value, and a sparkline."""
    right = ("lowest", "highest", "last")
    result = table(title, "", *right, "curve", right=right)
    for name in names or _curves(entries):
        _, values = curve(entries, name)
        if values:
            # The axis of a rate starts at zero: a dip of one percent must not look like a stop.
            line = sparkline(values, low=0.0 if name == "tokens_per_second" else None)
            cells = (format_value(name, value) for value in (min(values), max(values), values[-1]))
            result.add_row(key_in_words(name), *cells, line)
    return result


def compare(runs: Sequence[RunFolder]) -> tuple[Table, Table, Table, Table]:
    """Return four tables: the differences of the recipes, the environments and the data of `runs`, and their results.

    The data of a run is known once it is finished, because results.json has the digests.

    Raises:
        RequestError: a file of a run is missing or invalid.
    """
    names = short_names(runs)

    def differences(title: str, read: Callable[[RunFolder], Mapping[str, Any]]) -> Table:
        flat = [_flat(read(run)) for run in runs]
        result = table(title, "", *names)
        for key in dict.fromkeys(key for values in flat for key in values):
            row = [values.get(key, _ABSENT) for values in flat]
            if any(value != row[0] for value in row):
                result.add_row(key, *(_as_written(key, value) for value in shortened(row)))
        return result

    recipes = differences(
        "recipes", lambda run: load_run_recipe(run.recipe_file).model_dump(mode="json", by_alias=True)
    )
    # The options of the command are in the recipe.
    environments = differences(
        "environments", lambda run: {name: value for name, value in run.environment().items() if name != "command"}
    )
    data = differences("data", lambda run: run.results().get("data", {}) if run.finished else {})
    for each in (recipes, environments, data):
        if not each.row_count:
            each.title = f"{each.title}: no difference"
            each.show_header = False
    if not all(run.finished for run in runs) and not data.row_count:
        data.title = "data: not known before a run is finished"
    columns = [_results(run) for run in runs]
    results = table("results", "", *names, right=names)
    for name in dict.fromkeys(name for column in columns for name in column):
        results.add_row(name, *(column.get(name, "–") for column in columns))
    return recipes, environments, data, results


def format_value(key: str, value: Any) -> str:
    """Format a value of results.json or metrics.jsonl: fractions in percent; None, a nonfinite value, as a dash."""
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
    """Format a value of a recipe or an environment without rounding, so that different values look different."""
    if value is _ABSENT:
        return "–"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float) and not key.endswith("seed"):
        return f"{value:,}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _results(run: RunFolder, metrics: bool = True) -> dict[str, str]:
    """Return the results of a run by name; for an unfinished run, the last logged evaluation metrics."""
    if run.finished:
        results = run.results()
        values: dict[str, Any] = metrics_by_key(results) if metrics else {}
        values |= {name: results[name] for name in _RESULT_NAMES if name in results}
        return {_RESULT_NAMES.get(key) or key_in_words(key): format_value(key, value) for key, value in values.items()}
    entries = read_metrics(run.metrics_file)
    last = {key: curve(entries, key)[1][-1] for key in _curves(entries) if key.startswith(("heldout_", "dev_"))}
    return {key_in_words(key): format_value(key, value) for key, value in last.items()} | {
        "steps": f"{_last_step(run, entries):,} (not finished)"
    }


def _brief(recipe: Recipe) -> list[tuple[str, str]]:
    start = without_folders(recipe.from_) or "random initialization"
    optimizer, schedule = recipe.optimizer, recipe.schedule
    steps, fraction = schedule.warmup_steps, schedule.warmup_fraction
    warmup = f"{fraction or 0:.0%}" if steps is None else counted(steps, "step")
    common = [
        ("learning rate", f"{optimizer.learning_rate:g}, {schedule.kind} after {warmup} of warmup"),
        ("compute", f"{recipe.compute.dtype}, mixing {recipe.compute.mixing}"),
        ("seed", str(recipe.seed)),
    ]
    if isinstance(recipe, FinetuneRecipe):
        return [
            ("kind", f"fine-tuning on {task_of(recipe).title}"),
            ("from", start),
            ("batches", f"{recipe.batch_size} × {recipe.sequence_length} tokens, {counted(recipe.epochs, 'epoch')}"),
            *common,
        ]
    model = recipe.model
    layers = counted(model.num_hidden_layers, f"{model.block} layer")
    mixer = f"{model.num_attention_heads} heads" if model.attends else f"N {model.num_ssm}"
    size = f"{layers}, H {model.hidden_size}, I {model.intermediate_size}, {mixer}"
    return [
        ("kind", "pretraining"),
        ("model", f"{size}, vocabulary {model.vocab_size:,}"),
        ("from", start),
        ("data", without_folders(recipe.data.path)),
        ("batches", f"{recipe.batch_size} × {recipe.data.sequence_length} tokens, {counted(recipe.steps, 'step')}"),
        *common,
    ]


def _curves(entries: Entries) -> list[str]:
    """Return the names of the logged values: those of `_FIRST`, then the others in the order of the log."""
    logged = dict.fromkeys(name for entry in entries for name in entry if name != "step")
    return [name for name in _FIRST if name in logged] + [name for name in logged if name not in _FIRST]


def short_names(runs: Sequence[RunFolder]) -> tuple[str, ...]:
    """Return the folder names of `runs`; that of a seed includes its parent folder (``mrpc/seed-42``).

    If two names are equal, return just enough trailing parts of the paths to make them distinct.
    """
    paths = [run.path.resolve() for run in runs]
    names = tuple("/".join(path.parts[-2 if path.name.startswith("seed-") else -1 :]) for path in paths)
    return names if len(set(names)) == len(names) else tuple(shortened([str(path) for path in paths]))


def display_name(run: RunFolder) -> str:
    """Return a name that `find_run` accepts: relative to the runs folder, or to the working directory."""
    path, root = run.path.absolute(), runs_root().absolute()
    return str(path.relative_to(root)) if path != root and path.is_relative_to(root) else os.path.relpath(path)


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Flatten nested mappings to one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{before}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _key_value_table(title: str) -> Table:
    result = table(title, "name", "value")
    result.show_header = False
    return result
