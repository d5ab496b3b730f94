"""`bigs finetune glue`: fine-tune one model on every GLUE task; some tasks start from the suite's MNLI run instead."""

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
    """The options of a suite, kept in its folder as suite.json so that a resumed suite uses the same ones.

    `model` is the name or path of the start model and `data` the folder of the tasks (None: the hub); local paths are
    absolute. `variant` and `sets` are the arguments of `suite_recipes`, and `seeds` is the number of runs per task.
    """

    model: str
    data: str | None
    variant: str | None
    sets: tuple[str, ...]
    seeds: int


def saved_plan(root: Path) -> SuitePlan:
    """Return the plan of the suite in the folder `root`.

    Raises:
        RequestError: there is no suite, or its plan is invalid.
    """
    file = root / SUITE_PLAN
    try:
        return TypeAdapter(SuitePlan).validate_json(file.read_bytes())
    except OSError:
        raise RequestError(f"There is no suite to resume in {root}. Leave out --resume to start one.") from None
    except ValidationError:
        message = f"{file} is invalid, so this suite cannot be resumed. Start a new one: --run {root}-2"
        raise RequestError(message) from None


def resumed_plan(root: Path, model: str | None, data: str | None, variant: str | None, seeds: int | None) -> SuitePlan:
    """Return the plan of the suite in the folder `root`, to resume it.

    The other arguments are the options of the command, None if absent. They must agree with the plan.

    Raises:
        RequestError: an option differs from the plan, or as `saved_plan`.
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
                f"The suite in {root} was started {f'without {option}' if kept is None else f'with {option} {kept}'}, "
                f"which --resume cannot change. Leave out {option}, or start a new suite: --run {root}-2"
            )
    return plan


def begin_suite(root: Path, plan: SuitePlan) -> None:
    """Write the plan of a new suite to its folder.

    Raises:
        RequestError: the folder is in use or not writable, or the variant, the values or the data are invalid. Nothing
            is written.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        has_suite = (root / SUITE_PLAN).is_file()
        advice = f"Continue the suite in it with `{resume_command(VERB, root)}`, or name" if has_suite else "Name"
        raise RequestError(f"The folder {root} is in use. {advice} another one: --run {root}-2")
    check_writable(root, f"The folder {root}")
    # `finetune_suite` makes both checks too. They are here so that an invalid request leaves no plan behind.
    suite_recipes(plan.variant, plan.sets)
    available_tasks(None if plan.data is None else Path(plan.data))
    write_json(root / SUITE_PLAN, asdict(plan))


def suite_recipes(variant: str | None, sets: Sequence[str]) -> dict[str, FinetuneRecipe]:
    """Return the recipe of each task: its `variant` ("128" means cola-128, …) or, if it has none, its default recipe.

    Raises:
        RequestError: no task has such a variant, or a value is invalid.
    """
    from bigs_cli.recipe.catalog import recipe_names

    known = set(recipe_names("finetune"))
    names = {task: f"{task}-{variant}" if variant and f"{task}-{variant}" in known else task for task in TASK_ORDER}
    if variant and not any(name.endswith(f"-{variant}") for name in names.values()):
        raise RequestError(
            f"No GLUE task has a recipe variant '{variant}'. With --recipe 128 the recipes are cola-128, mnli-128, …"
        )
    recipes = {task: load_recipe(name, sets) for task, name in names.items()}
    return {task: recipe for task, recipe in recipes.items() if isinstance(recipe, FinetuneRecipe)}


def available_tasks(data: Path | None) -> list[Task]:
    """Return the tasks that have a training and a dev set under `data`; without `data`, all tasks (from the hub).

    Raises:
        RequestError: there are no such tasks.
    """
    tasks = [TASKS[name] for name in TASK_ORDER]
    if data is None:
        return tasks
    found = [task for task in tasks if {"train", "dev"} <= set(available_splits(task, data))]
    if not found:
        folders = ", ".join(task.folder for task in tasks)
        raise RequestError(
            f"There is no GLUE task under {data} (--data). It should contain some of the folders {folders}."
        )
    return found


def finetune_suite(
    plan: SuitePlan,
    open_start: Callable[[str], tuple[OpenModel, Tokenizer, str]],
    root: Path,
    resume: bool,
) -> None:
    """Fine-tune the plan's model on every available task, in `root`/TASK or, with several seeds, `root`/TASK/seed-….

    `open_start` opens a model by name and returns it with its tokenizer and the name that the recipe records. With
    `resume`, finished runs are kept, an interrupted one continues, and the others start.

    Raises:
        RequestError: a folder is in use, or a model or the data of a task cannot be read. Finished tasks are kept.
    """
    recipes, command = suite_recipes(plan.variant, plan.sets), resume_command(VERB, root)
    data = None if plan.data is None else Path(plan.data)
    tasks = available_tasks(data)
    missing = [name for name in TASK_ORDER if name not in {task.name for task in tasks}]
    if missing:
        err.print(f"Skipped, because they are not in {data}: {', '.join(TASKS[name].title for name in missing)}.")
    for number, task in enumerate(tasks):
        folder, recipe = root / task.name, recipes[task.name]
        if resume and best_run(folder) is not None and _complete(folder, plan.seeds):
            err.print(f"{task.title} is finished.")
            continue
        start = plan.model
        if task.start is not None and (start_run := best_run(root / task.start)) is not None:
            start = str(start_run.path)
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
