"""The recipes that ship with the package: where they lie, what they are called, what their comments say."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from bigs_cli.core.errors import RequestError, did_you_mean
from bigs_cli.core.paths import refuse_address

Kind = Literal["pretrain", "finetune"]


def recipe_names(kind: Kind | None = None) -> list[str]:
    """Return the names of all shipped recipes, or of one kind, sorted.

    Files whose name begins with ``_`` hold what several recipes have in common; they are not listed.
    """
    return sorted(path.stem for path in _folder().glob(f"{kind or '*'}/[!_]*.yaml"))


def recipe_path(name: str) -> Path:
    """Return the file of the shipped recipe `name`; the common ones, ``_…``, are found too.

    Raises:
        RequestError: there is none of that name.
    """
    for path in _folder().glob("*/*.yaml"):
        if path.stem == name:
            return path
    known = recipe_names()
    raise RequestError(
        f"There is no recipe '{name}'.{did_you_mean(name, known)} `bigs recipes list` shows them all; "
        "a recipe of your own is named by its file, as in ./mine.yaml."
    )


def recipe_file(name_or_path: str, folder: Path = Path()) -> Path:
    """Return the file that is meant: a path from `folder` if it looks like one, else a shipped recipe's.

    Raises:
        RequestError: it is an address; it looks like no path, and no shipped recipe has that name.
    """
    refuse_address(name_or_path)
    if "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        return folder / name_or_path
    return recipe_path(name_or_path)


def recipe_comment(name: str) -> str:
    """Return the comment at the top of the shipped recipe `name`, without its ``#`` marks."""
    lines = []
    for line in recipe_path(name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" ").rstrip())
    return "\n".join(lines)


def recipe_kind(name: str) -> str:
    """Return what the shipped recipe `name` is for: the folder it lies in."""
    return recipe_path(name).parent.name


def _folder() -> Path:
    """Beside this file in an installed package; at the top of the project in a checkout."""
    installed = Path(__file__).parent / "shipped"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "recipes"
