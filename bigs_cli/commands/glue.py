"""`bigs finetune glue`: a sweep over the GLUE tasks, some of which start from the MNLI run of the sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigs_cli.commands.custom_task import KEYS, option_of
from bigs_cli.core.errors import RequestError
from bigs_cli.core.places import place_of

if TYPE_CHECKING:
    from rich.console import Console

    from bigs_cli.reporting.console import Format

SUITE = "glue"
_SINGLE = {"teacher": "--teacher", **{name: option_of(key) for name, key in KEYS.items()}}
"""Arguments of the command that do not apply to all tasks → the option."""


def is_suite(task: str | None) -> bool:
    """Return whether the task that is named on the command line is all of GLUE."""
    return task is not None and task.lower() == SUITE


def check_suite(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Check the arguments of a new suite; return the tasks that have a training and a dev set, all if on the hub.

    Raises:
        RequestError: there is no start model, no such task, no such variant of the recipes, or a value is invalid.
    """
    from bigs_cli.commands.shared import download
    from bigs_cli.evaluation.suite import TASK_ORDER
    from bigs_cli.recipe import load_recipe
    from bigs_cli.reporting.console import err
    from bigs_cli.tasks import TASKS
    from bigs_cli.tasks.splits import available_splits

    if "start" not in arguments:
        raise RequestError("Name the pretrained model to start from: bigs finetune glue --from MODEL")
    if single := [option for name, option in _SINGLE.items() if name in arguments]:
        raise RequestError(f"{single[0]} is for a single task. Leave it out, or name one: bigs finetune cola")
    variant, data = arguments.get("recipe"), arguments.get("data")
    names = [recipe_name(task, variant) for task in TASK_ORDER]
    if variant and not any(name.endswith(f"-{variant}") for name in names):
        raise RequestError(
            f"No GLUE task has a recipe variant '{variant}'. With --recipe 128 the recipes are cola-128, mnli-128, …"
        )
    for name in names:
        load_recipe(name, arguments.get("sets", ()))
    if data is None:
        return TASK_ORDER
    folder = download(data)
    found = tuple(name for name in TASK_ORDER if {"train", "dev"} <= set(available_splits(TASKS[name], folder)))
    if not found:
        folders = ", ".join(TASKS[name].folder for name in TASK_ORDER)
        raise RequestError(
            f"There is no GLUE task under {data} (--data). It should contain some of the folders {folders}."
        )
    if missing := [TASKS[name].title for name in TASK_ORDER if name not in found]:
        err.print(f"Skipped, because they are not in {data}: {', '.join(missing)}.")
    return found


def recipe_name(task: str, variant: str | None) -> str:
    """Return the recipe of a task: its `variant` (with "128", cola-128, …) or, if it has none, its default recipe."""
    from bigs_cli.recipe.catalog import recipe_names

    name = f"{task}-{variant}"
    return name if variant and name in recipe_names("finetune") else task


def arguments_of(task: str, root: Path, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `bigs finetune` for one task of the suite in `root`."""
    from bigs_cli.evaluation.suite import best_run
    from bigs_cli.tasks import TASKS

    first, start = TASKS[task].start, arguments["start"]
    if first is not None and (run := best_run(root / first)) is not None:
        start = place_of(run.path)
    return {**arguments, "task": task, "recipe": recipe_name(task, arguments.get("recipe")), "start": start}


def print_suite(root: Path, console: Console, form: Format = "table") -> None:
    """Print the scores of the finished runs of a suite on `console`, and notes on stderr.

    Raises:
        RequestError: there is no finished run, or a file of a run is corrupt.
    """
    from bigs_cli.evaluation.suite import suite_lines, suite_notes, suite_table, suite_text
    from bigs_cli.reporting.console import err

    lines = suite_lines(root)
    if form == "table":
        console.print(suite_table(lines, f"GLUE, {root.resolve().name}, in percent"))
    else:
        console.print(suite_text(lines, form))
    for note in suite_notes(lines):
        err.print(note)
