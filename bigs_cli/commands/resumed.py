"""The recipe and the number of seeds of the run that `bigs finetune --resume` continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bigs_cli.checkpoints.resume import read_record, resume_command, run_recipe
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.commands.custom_task import option_of
from bigs_cli.core.errors import RequestError
from bigs_cli.recipe import FinetuneRecipe


def count_seeds(folder: RunFolder, requested: int | None) -> int:
    """Return the number of seeds of the run to resume: the recorded number, or a larger one that is requested.

    Raises:
        RequestError: fewer seeds are requested than recorded, or the number is unknown.
    """
    recorded = 1 if folder.is_run else read_record(folder.path).seeds
    if folder.is_run and requested not in (None, 1):
        raise RequestError(
            f"{folder.path} has a single seed. Leave out --seeds to resume it, or start a new run with --run "
            f"{folder.path}-2"
        )
    if requested is not None and requested < recorded:
        raise RequestError(
            f"{folder.path} was started with --seeds {recorded}. Leave out --seeds, or use a larger number."
        )
    if requested is None and recorded == 1 and not folder.is_run and any(folder.path.glob("seed-*/recipe.yaml")):
        raise RequestError(f"{folder.path} contains runs of several seeds. Add the number of seeds: --seeds N")
    return requested or recorded


def first_started(folder: RunFolder, count: int) -> RunFolder | None:
    """Return the run to resume, or with several seeds the run of the first seed; None if none was started."""
    if count == 1:
        return folder if folder.is_run else None
    runs = {path.parent.name.removeprefix("seed-"): path.parent for path in folder.path.glob("seed-*/recipe.yaml")}
    numbers = [name for name in runs if name.isdecimal()]
    return RunFolder(runs[min(numbers, key=int)]) if numbers else None


def recorded_recipe(run: RunFolder, changes: Sequence[str], train: str | None, dev: str | None) -> FinetuneRecipe:
    """Return the recipe of the run to resume; `train` and `dev` replace the recorded files if given.

    Raises:
        RequestError: it is a pretraining run, or files are given and it is not a run of a custom task.
    """
    recipe = run_recipe(run.path, changes)
    if not isinstance(recipe, FinetuneRecipe):
        command = resume_command("pretrain", run.path)
        raise RequestError(f"{run.path} is a pretraining run. Continue it with `{command}`")
    files = {name: path for name, path in (("train", train), ("dev", dev)) if path is not None}
    if files and recipe.files is None:
        raise RequestError(f"{run.path} was trained for {recipe.task}, a built-in task. Leave out --train and --dev.")
    return recipe.model_copy(update={"files": recipe.files and recipe.files.model_copy(update=files)})


def check_columns(recipe: FinetuneRecipe, run: str, given: Mapping[str, str | None]) -> None:
    """Check that a resumed run keeps its columns and its task type; `given` are keys of `files` with their options.

    Raises:
        RequestError: an option differs from the recipe; the message calls the run `run`.
    """
    if recipe.files is None:
        return
    for key, value in given.items():
        recorded, option = getattr(recipe.files, key) or "", option_of(key)
        moved = key in ("train", "dev")  # Files can have moved; their content is compared.
        if value is None or moved or value.replace("sequence-", "") == recorded.replace("sequence-", ""):
            continue
        original = f"with {option} {recorded}" if recorded else f"without {option}"
        raise RequestError(f"{run} was started {original}, not {value}. Leave out {option} to resume it.")
