"""The recipe of the run that `bigs finetune --resume` continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bigs_cli.checkpoints.resume import resume_command, run_recipe
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.commands.custom_task import option_of
from bigs_cli.core.errors import RequestError
from bigs_cli.recipe import FinetuneRecipe


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
