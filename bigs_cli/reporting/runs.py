"""Runs as a person reads them: what one is and did, and in what several differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from bigs_cli.checkpoint.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.recipe import FinetuneRecipe, Recipe, load_recipe
from bigs_cli.reporting.console import table
from bigs_cli.reporting.metrics_log import curve, read_metrics
from bigs_cli.reporting.sparkline import sparkline
from bigs_cli.tasks import task_of

Entries = Sequence[Mapping[str, Any]]

# What is shown of a run's course, in this order; dev_… and other figures follow.
_FIRST = ("loss", "heldout_loss", "accuracy", "heldout_accuracy", "learning_rate", "grad_norm", "tokens_per_second")


def state(run: RunFolder, recipe: Recipe, entries: Entries) -> str:
    """Return how far the run is: finished, running, or stopped, and after which step."""
    if run.finished:
        return "finished"
    steps = f" of {recipe.steps:,}" if not isinstance(recipe, FinetuneRecipe) else ""
    done = f"step {entries[-1]['step']:,}{steps}" if entries else "before its first step"
    return f"running, {done}" if run.running else f"not finished, {done}"


def headline(run: RunFolder, recipe: Recipe) -> tuple[str, float] | None:
    """Return the figure a finished run is known by, and its name; None where results.json lacks it.

    Raises:
        RequestError: results.json is garbled.
    """
    name = task_of(recipe).metrics[0] if isinstance(recipe, FinetuneRecipe) else "heldout_loss"
    metrics = run.results().get("metrics")
    value = metrics.get(name) if isinstance(metrics, dict) else None
    return (name, float(value)) if isinstance(value, (int, float)) else None


def list_table(runs: Iterable[RunFolder]) -> Table:
    """Return a table of `runs`, one row each; a run that cannot be read says so in its row."""
    made = table("", "run", "kind", "task", "state", "result", right=("result",))
    for run in runs:
        try:
            recipe = load_recipe(str(run.recipe_file))
            task = recipe.task if isinstance(recipe, FinetuneRecipe) else "mlm"
            ended = headline(run, recipe) if run.finished else None
        except RequestError:
            made.add_row(str(run.path), "", "", f"cannot be read: bigs runs show {run.path}", "")
            continue
        shown = "finished" if run.finished else "running" if run.running else "not finished"
        made.add_row(str(run.path), recipe.kind, task, shown, f"{ended[0]} {ended[1]:.4f}" if ended else "")
    return made


def summary(run: RunFolder) -> list[Table]:
    """Return what `bigs runs show` prints: the recipe in brief, the results, and the course.

    Raises:
        RequestError: a file of the run is garbled.
    """
    recipe, entries = load_recipe(str(run.recipe_file)), read_metrics(run.metrics_file)
    brief = _pairs(str(run.path))
    for name, value in (("state", state(run, recipe, entries)), *_brief(recipe)):
        brief.add_row(name, value)
    tables = [brief]
    if run.finished:
        tables.append(results_table(run))
    return [*tables, course_table("course", entries)] if entries else tables


def results_table(run: RunFolder) -> Table:
    """Return a table of what a run ended with, or of where one that is not finished stands.

    Raises:
        RequestError: a file of the run is garbled.
    """
    ended = _pairs("results")
    for name, value in _flat(_results(run)).items():
        ended.add_row(name.removeprefix("metrics."), _shown(value))
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
            made.add_row(name, *map(_shown, (min(values), max(values), values[-1])), line)
    return made


def compare(runs: Sequence[RunFolder]) -> tuple[Table, Table, Table, Table]:
    """Return the differences of `runs`: of recipes, environments and data by key, and their results side by side.

    The data of a run are known once it is finished: results.json has their digests.

    Raises:
        RequestError: a file of a run is absent or garbled.
    """
    names = short_names(runs)

    def side_by_side(title: str, read: Callable[[RunFolder], Mapping[str, Any]], same: bool = False) -> Table:
        values = [_flat(read(run)) for run in runs]
        keys = dict.fromkeys(key for of_one in values for key in of_one)
        made = table(title, "", *names, right=names if same else ())
        for key in keys:
            cells = [_shown(of_one[key]) if key in of_one else "–" for of_one in values]
            if same or len(set(cells)) > 1:
                made.add_row(key, *cells)
        return made

    recipes = side_by_side(
        "recipes", lambda run: load_recipe(str(run.recipe_file)).model_dump(mode="json", by_alias=True)
    )
    # What the command asked for is in the recipe.
    environments = side_by_side(
        "environments", lambda run: {name: value for name, value in run.environment().items() if name != "command"}
    )
    data = side_by_side("data", lambda run: run.results().get("data", {}) if run.finished else {})
    for made in (recipes, environments, data):
        if not made.row_count:
            made.title = f"{made.title}: no difference"
            made.show_header = False
    if not all(run.finished for run in runs) and not data.row_count:
        data.title = "data: not known before a run is finished"
    return recipes, environments, data, side_by_side("results", _results, same=True)


def _results(run: RunFolder) -> dict[str, Any]:
    """Return the results of a run that are figures, and for one that is not finished its last held-out ones."""
    if run.finished:
        ended = run.results()
        return {name: ended[name] for name in ("metrics", "step", "steps", "seconds", "parameters") if name in ended}
    entries = read_metrics(run.metrics_file)
    last = {name: curve(entries, name)[1][-1] for name in _curves(entries) if name.startswith(("heldout_", "dev_"))}
    return {"metrics": last, "steps": f"{entries[-1]['step'] if entries else 0} (not finished)"}


def _brief(recipe: Recipe) -> list[tuple[str, str]]:
    start = recipe.from_ or "a fresh model"
    optimizer, schedule = recipe.optimizer, recipe.schedule
    warmup = f"{schedule.warmup_steps} steps" if schedule.warmup_fraction is None else f"{schedule.warmup_fraction:.0%}"
    last = [
        ("learning rate", f"{optimizer.learning_rate:g}, {schedule.kind} after {warmup} of warmup"),
        ("arithmetic", f"{recipe.compute.dtype}, mixing {recipe.compute.mixing}"),
        ("seed", str(recipe.seed)),
    ]
    if isinstance(recipe, FinetuneRecipe):
        return [
            ("kind", f"fine-tuning on {task_of(recipe).title}"),
            ("from", start),
            ("batches", f"{recipe.batch_size} × {recipe.sequence_length} tokens, {recipe.epochs:g} epochs"),
            *last,
        ]
    model = recipe.model
    size = f"{model.num_hidden_layers} layers, H {model.hidden_size}, I {model.intermediate_size}, N {model.num_ssm}"
    return [
        ("kind", "pretraining"),
        ("model", f"{size}, vocabulary {model.vocab_size:,}"),
        ("from", start),
        ("data", recipe.data.path),
        ("batches", f"{recipe.batch_size} × {recipe.data.sequence_length} tokens, {recipe.steps:,} steps"),
        *last,
    ]


def _curves(entries: Entries) -> list[str]:
    """Return the names of what is logged: the usual ones first, the others in the order they came."""
    logged = dict.fromkeys(name for entry in entries for name in entry if name != "step")
    return [name for name in _FIRST if name in logged] + [name for name in logged if name not in _FIRST]


def short_names(runs: Sequence[RunFolder]) -> tuple[str, ...]:
    """Return the folders' own names, or the paths where two have the same."""
    names = tuple(run.path.resolve().name for run in runs)
    return names if len(set(names)) == len(names) else tuple(str(run.path) for run in runs)


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{before}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4f}" if abs(value) >= 0.01 else f"{value:.3g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _pairs(title: str) -> Table:
    made = table(title, "what", "value")
    made.show_header = False
    return made
