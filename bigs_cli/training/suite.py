"""`bigs finetune glue`: every GLUE task from one model, those with a start of their own from this suite's MNLI run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.resume import record_of, resume_command, same_place
from bigs_cli.checkpoints.run import SUITE_PLAN, RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import check_writable, write_json
from bigs_cli.evaluation.suite import TASK_ORDER, best_run
from bigs_cli.recipe import FinetuneRecipe, load_recipe
from bigs_cli.reporting.console import err
from bigs_cli.tasks import TASKS
from bigs_cli.tasks.splits import available_splits
from bigs_cli.tasks.task import Task
from bigs_cli.training.finetune import finetune, load_task_data
from bigs_cli.training.job import Job
from bigs_cli.training.seeds import finetune_seeds

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SUITE = "glue"
VERB = f"finetune {SUITE}"


@dataclass(frozen=True)
class SuitePlan:
    """What a suite was begun with, kept in its folder as suite.json: it goes on so.

    `model` is the name it is found by later, `data` the folder of the tasks (None: the hub), both as absolute paths
    where they are on this disk; `variant` and `sets` are as `suite_recipes` takes them, `seeds` is how many each task
    has.
    """

    model: str
    data: str | None
    variant: str | None
    sets: tuple[str, ...]
    seeds: int


def saved_plan(root: Path) -> SuitePlan:
    """Return what the suite in the folder was begun with.

    Raises:
        RequestError: there is no suite, or its plan is damaged.
    """
    file = root / SUITE_PLAN
    try:
        return TypeAdapter(SuitePlan).validate_json(file.read_bytes())
    except OSError:
        raise RequestError(f"There is no suite to go on with in {root}. Leave out --resume to begin one.") from None
    except ValidationError:
        told = f"{file} is damaged, so this suite cannot go on. Begin another one: --run {root}-2"
        raise RequestError(told) from None


def resumed_plan(root: Path, model: str | None, data: str | None, variant: str | None, seeds: int | None) -> SuitePlan:
    """Return the plan of the suite in the folder, which is to go on.

    The others are what is asked for this time, of the plan's fields; None: as it was.

    Raises:
        RequestError: it was begun with something else, or as `saved_plan`.
    """
    plan = saved_plan(root)
    if data is not None and plan.data is not None and same_place(data, plan.data):
        data = plan.data
    if model is not None and same_place(model, plan.model):
        model = plan.model
    asked = (("--from", model, plan.model), ("--data", data, plan.data), ("--recipe", variant, plan.variant))
    for option, wanted, kept in (*asked, ("--seeds", seeds, plan.seeds)):
        if wanted not in (None, kept):
            raise RequestError(
                f"The suite in {root} was begun {'without' if kept is None else f'with {kept} as its'} {option}, and "
                f"goes on so. Leave {option} out, or begin another one: --run {root}-2"
            )
    return plan


def begin_suite(root: Path, plan: SuitePlan) -> None:
    """Write the plan of a new suite to its folder.

    Raises:
        RequestError: the folder is in use or cannot be written, or the variant, values or data are wrong. Nothing is
            written then.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        begun = (root / SUITE_PLAN).is_file()
        go_on = f"Continue the suite in it with `{resume_command(VERB, root)}`, or name" if begun else "Name"
        raise RequestError(f"The folder {root} is in use. {go_on} another one: --run {root}-2")
    check_writable(root, f"The folder {root}")
    # Both are asked again by `finetune_suite`: here, so that a wrong request leaves no plan behind.
    suite_recipes(plan.variant, plan.sets)
    present(None if plan.data is None else Path(plan.data))
    write_json(root / SUITE_PLAN, asdict(plan))


def suite_recipes(variant: str | None, sets: Sequence[str]) -> dict[str, FinetuneRecipe]:
    """Return each task's recipe: its own, or its `variant`: "128" means cola-128, …; tasks without one keep their own.

    Raises:
        RequestError: no task has such a variant, or a value is wrong.
    """
    from bigs_cli.recipe.catalog import recipe_names

    known = set(recipe_names("finetune"))
    names = {task: f"{task}-{variant}" if variant and f"{task}-{variant}" in known else task for task in TASK_ORDER}
    if variant and not any(name.endswith(f"-{variant}") for name in names.values()):
        raise RequestError(f"No GLUE task has a recipe {variant}. There are cola-128, cola-freeze, …: --recipe 128")
    recipes = {task: load_recipe(name, sets) for task, name in names.items()}
    return {task: recipe for task, recipe in recipes.items() if isinstance(recipe, FinetuneRecipe)}


def present(data: Path | None) -> list[Task]:
    """Return the tasks that can be trained: those whose train and dev sets are under `data`, or all on the hub.

    Raises:
        RequestError: there is none.
    """
    tasks = [TASKS[name] for name in TASK_ORDER]
    if data is None:
        return tasks
    found = [task for task in tasks if {"train", "dev"} <= set(available_splits(task, data))]
    if not found:
        folders = ", ".join(task.folder for task in tasks)
        raise RequestError(
            f"There is no GLUE task under {data} (--data). It should hold some of the folders {folders}."
        )
    return found


def finetune_suite(
    plan: SuitePlan,
    open_start: Callable[[str], tuple[OpenModel, Tokenizer, str]],
    root: Path,
    resume: bool,
) -> None:
    """Fine-tune the plan's model on every task there is, in `root`/TASK, or with several seeds in `root`/TASK/seed-….

    `open_start` opens a model by name, and says under which name a recipe records it. With `resume`, what is finished
    stays, what was stopped goes on, and the rest is begun.

    Raises:
        RequestError: a folder is in use, or a model or the data of a task cannot be read; earlier tasks are done then.
    """
    recipes, command = suite_recipes(plan.variant, plan.sets), resume_command(VERB, root)
    data = None if plan.data is None else Path(plan.data)
    tasks = present(data)
    missing = [name for name in TASK_ORDER if name not in {task.name for task in tasks}]
    if missing:
        err.print(f"Not under {data}, and left out: {', '.join(TASKS[name].title for name in missing)}.")
    for number, task in enumerate(tasks):
        folder, recipe = root / task.name, recipes[task.name]
        if resume and best_run(folder) is not None and _complete(folder, plan.seeds):
            err.print(f"{task.title} is finished.")
            continue
        start = plan.model
        if task.start is not None and (own := best_run(root / task.start)) is not None:
            start = str(own.path)
        err.print(f"Task {number + 1} of {len(tasks)}: {task.title}, from {start}")
        opened, tokenizer, name = open_start(start)
        recipe = recipe.model_copy(update={"from_": name})
        examples = load_task_data(task, data, recipe.max_train_examples, recipe.seed)
        record = record_of(recipe, None, data).model_copy(update={"seeds": plan.seeds})
        job = Job(RunFolder(folder), record, command, resume)
        if plan.seeds > 1:
            finetune_seeds(recipe, task, examples, opened, tokenizer, job)
        else:
            job = replace(job, resume=resume and job.folder.is_run)
            finetune(recipe, task, examples, opened if job.needs_start else None, tokenizer, job)


def _complete(folder: Path, seeds: int) -> bool:
    if seeds == 1:
        return RunFolder(folder).finished
    return sum(RunFolder(place).finished for place in folder.glob("seed-*")) >= seeds
