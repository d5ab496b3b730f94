"""The recipe and the number of seeds of the run that `bigs finetune --resume` continues."""

from __future__ import annotations

from collections.abc import Sequence

from bigs_cli.checkpoints.resume import read_record, resume_command, run_recipe
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.recipe import FinetuneRecipe


def count_seeds(folder: RunFolder, asked: int | None) -> int:
    """Return the number of seeds of the run to resume: as it was started, or more if requested.

    Raises:
        RequestError: fewer are requested, or the number is not known.
    """
    recorded = 1 if folder.is_run else read_record(folder.path).seeds
    if folder.is_run and asked not in (None, 1):
        raise RequestError(
            f"{folder.path} has a single seed. Leave out --seeds to resume it, or start a new run with --run "
            f"{folder.path}-2"
        )
    if asked is not None and asked < recorded:
        raise RequestError(
            f"{folder.path} was started with --seeds {recorded}. Leave out --seeds, or give a larger number."
        )
    if asked is None and recorded == 1 and not folder.is_run and any(folder.path.glob("seed-*/recipe.yaml")):
        raise RequestError(f"{folder.path} contains runs of several seeds. Give the number of seeds: --seeds N")
    return asked or recorded


def first_begun(folder: RunFolder, count: int) -> RunFolder | None:
    """Return the run to resume, or the run of the first of several seeds; None if there is none."""
    if count == 1:
        return folder if folder.is_run else None
    runs = {path.parent.name.removeprefix("seed-"): path.parent for path in folder.path.glob("seed-*/recipe.yaml")}
    numbers = [name for name in runs if name.isdecimal()]
    return RunFolder(runs[min(numbers, key=int)]) if numbers else None


def begun_recipe(run: RunFolder, changes: Sequence[str], train: str | None, dev: str | None) -> FinetuneRecipe:
    """Return the recipe of the run to resume, with `train` and `dev` in place of its own files if given.

    Raises:
        RequestError: it is a pretraining run, or not of a custom task.
    """
    recipe = run_recipe(run.path, changes)
    if not isinstance(recipe, FinetuneRecipe):
        command = resume_command("pretrain", run.path)
        raise RequestError(f"{run.path} is a pretraining run. Continue it with `{command}`")
    files = {name: path for name, path in (("train", train), ("dev", dev)) if path is not None}
    if files and recipe.files is None:
        raise RequestError(f"{run.path} was trained for {recipe.task}, a built-in task. Leave out --train and --dev.")
    return recipe.model_copy(update={"files": recipe.files and recipe.files.model_copy(update=files)})


def check_files(recipe: FinetuneRecipe, what: str, given: dict[str, str | None]) -> None:
    """Refuse to resume the run called `what` with other columns or another task type than it was started with.

    Raises:
        RequestError: an option in `given` differs.
    """
    files = recipe.files
    if files is None:
        return
    started = {"--text": files.text, "--pair": files.pair, "--label": files.label, "--task-type": files.task_type}
    for option, asked in given.items():
        if asked is not None and asked.replace("sequence-", "") != (started[option] or "").replace("sequence-", ""):
            own = f"with {option} {started[option]}" if started[option] else f"without {option}"
            raise RequestError(f"{what} was started {own}, not {asked}. Leave out {option} to resume it.")
