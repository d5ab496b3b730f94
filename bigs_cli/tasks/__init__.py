"""Labelled tasks: their files, columns, labels, metrics and published scores."""

from __future__ import annotations

from bigs_cli.core.errors import RequestError, did_you_mean
from bigs_cli.recipe import FinetuneRecipe
from bigs_cli.tasks.contract_nli import CONTRACT_NLI
from bigs_cli.tasks.custom import NAME, custom_task
from bigs_cli.tasks.endings import CODAH, SWAG
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.glue import GLUE
from bigs_cli.tasks.imdb import IMDB
from bigs_cli.tasks.squad import SQUAD
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.wikiann import WIKIANN
from bigs_cli.tasks.word_order import WORD_ORDER

__all__ = ["TASKS", "Examples", "Task", "get_task", "task_of"]

TASKS: dict[str, Task] = {
    task.name: task for task in (*GLUE, IMDB, CONTRACT_NLI, WIKIANN, *SQUAD, SWAG, CODAH, WORD_ORDER)
}
"""Name → task."""

_OTHER_NAMES = {
    "sts": "stsb",
    "sst": "sst2",
    "diagnostic": "ax",
    "diagnostics": "ax",
    "squad1": "squad",
    "squadv1": "squad",
    "squadv2": "squad2",
}


def get_task(name: str) -> Task:
    """Return the task called `name`; case, hyphens and underscores do not matter (``SST-2`` is ``sst2``).

    Raises:
        RequestError: there is no such task.
    """
    key = _key(name)
    tasks = {_key(task.name): task for task in TASKS.values()}
    task = tasks.get(_OTHER_NAMES.get(key, key))
    if task is None:
        raise RequestError(f"There is no task '{name}'.{did_you_mean(name.lower(), TASKS)} Tasks: {', '.join(TASKS)}.")
    return task


def task_of(recipe: FinetuneRecipe) -> Task:
    """Return the task of a recipe: a built-in task, or the custom task of its `files`.

    Raises:
        RequestError: the task is unknown, or the recipe is for a custom task and has no `files`.
    """
    if recipe.files is None and recipe.task == NAME:
        raise RequestError(
            "A custom task requires files: --train FILE --dev FILE, or `files` with train and dev in the recipe."
        )
    return get_task(recipe.task) if recipe.files is None else custom_task(recipe.files)


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")
