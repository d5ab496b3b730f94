"""resume.json: the inputs of a run besides its recipe, for `--resume`; and the command that resumes a run.

The paths in a recipe are those that the user gave. The record has the absolute paths, so that a run can be resumed from
another working directory. Runs of earlier releases have no record, which is equivalent to an empty one.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json
from bigs_cli.core.json_objects import checked, read_object
from bigs_cli.core.places import place_of
from bigs_cli.recipe import PretrainRecipe, Recipe, is_recipe_file, load_run_recipe

RESUME = "resume.json"


class ResumeRecord(BaseModel):
    """The inputs of a run: absolute paths, names of shipped recipes, or hub ids. None: there is no such input."""

    model_config = ConfigDict(frozen=True)

    recipe: str | None = None
    """The recipe that the run was started with."""
    data: str | None = None
    """The training data; None for fine-tuning data from the hub."""
    validation: str | None = None
    """Separate token shards for validation."""
    start: str | None = None
    """The model that the run started from."""
    teacher: str | None = None
    """The model that the run learns from."""
    files: dict[str, str] = {}
    """The files of a custom task: train, dev, test."""


def read_record(folder: Path) -> ResumeRecord:
    """Return the record of the run in `folder`; an empty one if there is none.

    Raises:
        RequestError: it cannot be read.
    """
    path = folder / RESUME
    if not path.exists():
        return ResumeRecord()
    remedy = "Remove it, and repeat --data and the other options of the command that started the run."
    return checked(read_object(path, remedy), ResumeRecord, path, remedy)


def write_record(folder: Path, record: ResumeRecord) -> None:
    """Write the record of the run in `folder`."""
    write_json(folder / RESUME, record.model_dump(mode="json"))


def absolute(path: str | Path) -> str:
    """Return the absolute path of an existing file or folder; anything else is a name and returned unchanged."""
    return os.path.abspath(path) if os.path.exists(path) else str(path)  # noqa: PTH100, PTH110 - keeps links


def same_place(one: str | Path, other: str | Path) -> bool:
    """Return whether two paths or names are equivalent."""
    try:
        return Path(absolute(one)).resolve() == Path(absolute(other)).resolve()
    except ValueError:  # A path in a corrupt file contains a NUL.
        return str(one) == str(other)


def locate(path: str, recorded: str | None) -> str:
    """Return the current location of `path` in a recipe: the `recorded` path, or `path` if only that exists.

    If both are the same file, `path` is returned.
    """
    if recorded is None or same_place(path, recorded):
        return path
    return path if os.path.exists(path) and not os.path.exists(recorded) else recorded  # noqa: PTH110


def run_recipe(folder: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of the run in `folder` with overrides as in --set, and paths valid in the working directory.

    Raises:
        RequestError: the recipe or the record cannot be read, or an override is invalid.
    """
    recipe, record = load_run_recipe(folder / "recipe.yaml", overrides), read_record(folder)
    start = None if recipe.from_ is None else locate(recipe.from_, record.start)
    teacher = None if recipe.teacher is None else locate(recipe.teacher, record.teacher)
    models = {"from_": start, "teacher": teacher}
    if isinstance(recipe, PretrainRecipe):
        validation = recipe.data.validation
        data = recipe.data.model_copy(
            update={
                "path": locate(recipe.data.path, record.data),
                "validation": None if validation is None else locate(validation, record.validation),
            }
        )
        return recipe.model_copy(update={**models, "data": data})
    files = recipe.files
    if files is not None:
        paths = {"train": files.train, "dev": files.dev, "test": files.test}
        located = {name: locate(path, record.files.get(name)) for name, path in paths.items() if path is not None}
        files = files.model_copy(update=located)
    return recipe.model_copy(update={**models, "files": files})


def record_of(recipe: Recipe, name: str | None, data: str | None = None) -> ResumeRecord:
    """Return the record of a run of `recipe`, whose name or file is `name`; `data` is the fine-tuning data folder."""
    recorded: dict[str, object] = {
        "recipe": None if name is None else absolute(name) if is_recipe_file(name) else name,
        "start": None if recipe.from_ is None else absolute(recipe.from_),
        "teacher": None if recipe.teacher is None else absolute(recipe.teacher),
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


def check_recipe(folder: Path, name: str | None) -> None:
    """Check that the run in `folder` is resumed with its own recipe.

    Raises:
        RequestError: `name` is another recipe.
    """
    recorded = read_record(folder).recipe
    if name is None or recorded is None or same_place(name, recorded) or same_place(name, folder / "recipe.yaml"):
        return
    raise RequestError(
        f"{folder} was started with --recipe {recorded} and can be resumed only with that recipe. Leave out --recipe, "
        f"or start a new run: --run {folder}-2"
    )


def check_start(folder: Path, model: str | None, recipe: Recipe) -> None:
    """Check that the run in `folder` is resumed with the start model of its `recipe`, as returned by `run_recipe`.

    Raises:
        RequestError: `model`, a path or a hub id, is another model.
    """
    if model is None or (recipe.from_ is not None and same_place(model, recipe.from_)):
        return
    started = "from random initialization" if recipe.from_ is None else f"from {recipe.from_}"
    raise RequestError(
        f"{folder} was started {started}, not from {model}. Leave out --from to resume it, or start a new run: "
        f"--run {folder}-2"
    )


_sweep: ContextVar[str | None] = ContextVar("sweep", default=None)


@contextmanager
def part_of_sweep(command: str) -> Iterator[None]:
    """Within this context, runs are parts of a sweep, which `command` resumes."""
    token = _sweep.set(command)
    try:
        yield
    finally:
        _sweep.reset(token)


def sweep_command() -> str | None:
    """Return the command that resumes the sweep whose run is being trained; None for a single run."""
    return _sweep.get()


def resume_command(verb: str, folder: Path | str, *options: str) -> str:
    """Return the shell command that resumes the run in `folder`, or at this URL."""
    place = place_of(folder) if isinstance(folder, Path) else folder
    return shlex.join(["bigs", *verb.split(), "--resume", "--run", place, *options])


def resume_command_of(folder: Path) -> str:
    """Return the command that resumes the run in `folder`.

    Raises:
        RequestError: the recipe of the run cannot be read.
    """
    path = folder / "recipe.yaml"
    pretrains = path.is_file() and isinstance(load_run_recipe(path), PretrainRecipe)
    return resume_command("pretrain" if pretrains else "finetune", folder)
