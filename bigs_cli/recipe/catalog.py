"""The shipped recipes: their names, text and comments.

A file contains a recipe and its variants: ``mrpc.yaml`` is the recipe ``mrpc`` and, with the changes under
``variants: {128: …}``, the recipe ``mrpc-128``. A file whose name begins with ``_`` is only a base for other recipes.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any, Literal

from bigs_cli.core.errors import RequestError, did_you_mean
from bigs_cli.core.paths import check_local
from bigs_cli.recipe.source import dump, read_value

Kind = Literal["pretrain", "finetune"]
_VARIANT = re.compile(r"^  ([\w-]+):\n((?: {4}.*\n)+)", re.MULTILINE)


def recipe_names(kind: Kind | None = None) -> list[str]:
    """Return the sorted names of all shipped recipes, or of those of one kind."""
    names = []
    for path in _folder().glob(f"{kind or '*'}/*.yaml"):
        names += [] if path.stem.startswith("_") else [path.stem]
        names += [f"{path.stem.removeprefix('_')}-{variant}" for variant in _split_variants(path)[1]]
    return sorted(names)


def is_recipe_file(name_or_path: str) -> bool:
    """Return whether this is the path of a recipe file, and not the name of a shipped recipe.

    Raises:
        RequestError: it is a URL.
    """
    check_local(name_or_path)
    return "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith((".yaml", ".yml"))


def recipe_text(name: str) -> str:
    """Return the shipped recipe or base `name` as YAML with its comment.

    Raises:
        RequestError: there is no recipe with that name.
    """
    path, variant = _find(name)
    base, variants = _split_variants(path)
    if variant is None:
        return base
    changes = variants[variant]
    merged = _merge(read_value(base, path.name)[0], read_value(changes, path.name)[0])
    return _comment(changes) + dump(merged)


def recipe_comment(name: str) -> str:
    """Return the comment at the top of the shipped recipe `name`, without its ``#`` marks."""
    return re.sub(r"^# ?", "", _comment(recipe_text(name)), flags=re.MULTILINE).rstrip()


def recipe_kind(name: str) -> str:
    """Return the kind of the shipped recipe `name`."""
    return _find(name)[0].parent.name


def _find(name: str) -> tuple[Path, str | None]:
    """Return the file of a shipped recipe and the name of the variant, None for the main recipe of the file."""
    for path in _folder().glob("*/*.yaml"):
        if path.stem == name:
            return path, None
        stem = f"{path.stem.removeprefix('_')}-"
        if name.startswith(stem) and (variant := name.removeprefix(stem)) in _split_variants(path)[1]:
            return path, variant
    raise RequestError(
        f"There is no recipe '{name}'.{did_you_mean(name, recipe_names())} `bigs recipes list` lists all of them; to "
        "use your own recipe, name its file, as in ./mine.yaml."
    )


def _split_variants(path: Path) -> tuple[str, dict[str, str]]:
    """Return the text of the main recipe of a file, and the text of each variant."""
    base, _, variants = path.read_text(encoding="utf-8").partition("variants:\n")
    return base, {name: textwrap.dedent(text) for name, text in _VARIANT.findall(variants)}


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `base` updated with `changes`: mappings are merged by key, other values are replaced."""
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _comment(text: str) -> str:
    return "".join(re.findall(r"\A(?:#.*\n)+", text))


def _folder() -> Path:
    """Return the folder of the recipes: beside this file if installed, at the top of the project in a checkout."""
    installed = Path(__file__).parent / "shipped"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "recipes"
