"""What `bigs finetune --resume` needs of the run that it continues: its recipe, and how many seeds it has."""

from __future__ import annotations

from collections.abc import Sequence

from bigs_cli.checkpoints.resume import read_record, resume_command, run_recipe
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.recipe import FinetuneRecipe


def count_seeds(folder: RunFolder, asked: int | None) -> int:
    """Return how many seeds the run to be resumed has: as it was started, or more if more are asked for.

    Raises:
        RequestError: fewer are asked for, or it is not known.
    """
    recorded = 1 if folder.is_run else read_record(folder.path).seeds
    if folder.is_run and asked not in (None, 1):
        raise RequestError(
            f"{folder.path} is a run of one seed. Leave out --seeds to resume it, or start a new run: --run "
            f"{folder.path}-2"
        )
    if asked is not None and asked < recorded:
        raise RequestError(f"{folder.path} was started with --seeds {recorded}. Leave it out, or name more.")
    if asked is None and recorded == 1 and not folder.is_run and any(folder.path.glob("seed-*/recipe.yaml")):
        raise RequestError(f"{folder.path} holds the runs of several seeds. Say how many it is to have: --seeds N")
    return asked or recorded


def first_begun(folder: RunFolder, count: int) -> RunFolder | None:
    """Return the run that is to be resumed, or the first of several seeds' runs; None if there is none."""
    if count == 1:
        return folder if folder.is_run else None
    runs = {path.parent.name.removeprefix("seed-"): path.parent for path in folder.path.glob("seed-*/recipe.yaml")}
    numbers = [name for name in runs if name.isdecimal()]
    return RunFolder(runs[min(numbers, key=int)]) if numbers else None


def begun_recipe(run: RunFolder, changes: Sequence[str], train: str | None, dev: str | None) -> FinetuneRecipe:
    """Return the recipe of the run that is to be resumed, with its files where they are given.

    Raises:
        RequestError: it is a pretraining run, or has no files.
    """
    recipe = run_recipe(run.path, changes)
    if not isinstance(recipe, FinetuneRecipe):
        command = resume_command("pretrain", run.path)
        raise RequestError(f"{run.path} is a pretraining run. Continue it with `{command}`")
    files = {name: path for name, path in (("train", train), ("dev", dev)) if path is not None}
    if files and recipe.files is None:
        raise RequestError(f"{run.path} was trained for {recipe.task}, which has files of its own: leave out --train.")
    return recipe.model_copy(update={"files": recipe.files and recipe.files.model_copy(update=files)})


def check_files(recipe: FinetuneRecipe, what: str, given: dict[str, str | None]) -> None:
    """Refuse to resume a run with other columns, or labels of another kind, than it was started with.

    Raises:
        RequestError: one of the options `given` says something else.
    """
    files = recipe.files
    if files is None:
        return
    started = {"--text": files.text, "--pair": files.pair, "--label": files.label, "--task-type": files.task_type}
    for option, asked in given.items():
        if asked is not None and asked.replace("sequence-", "") != (started[option] or "").replace("sequence-", ""):
            own = f"with {option} {started[option]}" if started[option] else f"without {option}"
            raise RequestError(f"{what} was started {own}, not {asked}. Leave out {option} to resume it.")
