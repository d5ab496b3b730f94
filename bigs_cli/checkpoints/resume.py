"""resume.json: what `--resume` needs besides a run's recipe, and the command that resumes a run.

A recipe keeps the paths as they were given. The record has where they pointed when the run started, so that a run can
be resumed from another working directory. Older runs have no record; theirs is empty.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bigs_cli.core.error_messages import read_error
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json
from bigs_cli.recipe import PretrainRecipe, Recipe, is_recipe_file, load_run_recipe

RESUME = "resume.json"


class ResumeRecord(BaseModel):
    """The inputs of a run: absolute paths, or names (of a recipe, on the hub). None: the run has no such input."""

    model_config = ConfigDict(frozen=True)

    recipe: str | None = None
    """The recipe it was started with."""
    data: str | None = None
    """Its training data; None for fine-tuning data from the hub."""
    validation: str | None = None
    """Other token shards that pretraining validates on."""
    start: str | None = None
    """The model it started from."""
    files: dict[str, str] = {}
    """The files of a custom task: train, dev, test."""
    seeds: int = Field(default=1, ge=1)
    """How many seeds are trained, each in a folder of its own below this one."""


def read_record(folder: Path) -> ResumeRecord:
    """Return the record of the run, or of the several seeds, in `folder`; an empty one if it has none.

    Raises:
        RequestError: it cannot be read.
    """
    path = folder / RESUME
    if not path.exists():
        return ResumeRecord()
    try:
        return ResumeRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise read_error(path, error) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise RequestError(
            f"{path} is damaged: {where}: {first['msg']}. Remove it, and give --data and the other options of the "
            "command that started the run again."
        ) from None


def write_record(folder: Path, record: ResumeRecord) -> None:
    """Write the record of the run in `folder`."""
    write_json(folder / RESUME, record.model_dump(mode="json"))


def absolute(place: str | Path) -> str:
    """Return the absolute path of a file or folder; the name of anything else (on the hub, of a recipe) as it is."""
    return os.path.abspath(place) if os.path.exists(place) else str(place)  # noqa: PTH100, PTH110 - keeps links


def same_place(one: str | Path, other: str | Path) -> bool:
    """Return whether two paths or names mean the same."""
    try:
        return Path(absolute(one)).resolve() == Path(absolute(other)).resolve()
    except ValueError:  # A damaged file has a path with a NUL in it.
        return str(one) == str(other)


def locate(given: str, recorded: str | None) -> str:
    """Return where the path `given` in a recipe is now: at the `recorded` place or, if not there, as given.

    It also stays as given where that is the recorded place.
    """
    if recorded is None or same_place(given, recorded):
        return given
    return given if os.path.exists(given) and not os.path.exists(recorded) else recorded  # noqa: PTH110


def run_recipe(folder: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of the run in `folder` with `overrides` as of --set, its paths valid in this working directory.

    Raises:
        RequestError: the recipe or the record cannot be read, or an override is wrong.
    """
    recipe, record = load_run_recipe(folder / "recipe.yaml", overrides), read_record(folder)
    start = None if recipe.from_ is None else locate(recipe.from_, record.start)
    if isinstance(recipe, PretrainRecipe):
        validation = recipe.data.validation
        data = recipe.data.model_copy(
            update={
                "path": locate(recipe.data.path, record.data),
                "validation": None if validation is None else locate(validation, record.validation),
            }
        )
        return recipe.model_copy(update={"from_": start, "data": data})
    files = recipe.files
    if files is not None:
        given = {"train": files.train, "dev": files.dev, "test": files.test}
        located = {name: locate(path, record.files.get(name)) for name, path in given.items() if path is not None}
        files = files.model_copy(update=located)
    return recipe.model_copy(update={"from_": start, "files": files})


def record_of(recipe: Recipe, name: str | None, data: Path | None = None) -> ResumeRecord:
    """Return the record of a run of `recipe`, which was given as `name`; `data` is the folder of fine-tuning data."""
    recorded: dict[str, object] = {
        "recipe": None if name is None else absolute(name) if is_recipe_file(name) else name,
        "start": None if recipe.from_ is None else absolute(recipe.from_),
        "data": None if data is None else absolute(data),
    }
    if isinstance(recipe, PretrainRecipe):
        validation = recipe.data.validation
        recorded["data"] = absolute(recipe.data.path)
        recorded["validation"] = None if validation is None else absolute(validation)
    elif recipe.files is not None:
        files = {"train": recipe.files.train, "dev": recipe.files.dev, "test": recipe.files.test}
        recorded["files"] = {split: absolute(path) for split, path in files.items() if path is not None}
    return ResumeRecord.model_validate(recorded)


def check_recipe(folder: Path, given: str | None) -> None:
    """Refuse to resume the run in `folder` with another recipe than the one it was started with.

    Raises:
        RequestError: `given` is another one.
    """
    recorded = read_record(folder).recipe
    if given is None or recorded is None or same_place(given, recorded) or same_place(given, folder / "recipe.yaml"):
        return
    raise RequestError(
        f"{folder} was started with --recipe {recorded} and is resumed with the same recipe. Leave out --recipe, or "
        f"start a new run: --run {folder}-2"
    )


def check_start(folder: Path, given: str | None, recipe: Recipe) -> None:
    """Refuse to resume the run in `folder` from another model than that of its `recipe`, as `run_recipe` returns it.

    Raises:
        RequestError: `given`, a path or a hub id, is another one.
    """
    if given is None or (recipe.from_ is not None and same_place(given, recipe.from_)):
        return
    started = "with a new model" if recipe.from_ is None else f"from {recipe.from_}"
    raise RequestError(
        f"{folder} was started {started}, not from {given}. Leave out --from to resume it, or start a new run: "
        f"--run {folder}-2"
    )


def resume_command(verb: str, folder: Path, *options: str) -> str:
    """Return the command that resumes the run in `folder`, ready for a shell."""
    return shlex.join(["bigs", *verb.split(), "--resume", "--run", str(folder), *options])


def resume_command_of(folder: Path) -> str:
    """Return the command that resumes the run, or the several seeds, in `folder`.

    Raises:
        RequestError: the recipe of the run cannot be read.
    """
    path = folder / "recipe.yaml"
    pretrains = path.is_file() and isinstance(load_run_recipe(path), PretrainRecipe)
    return resume_command("pretrain" if pretrains else "finetune", folder)
