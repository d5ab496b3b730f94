"""Recipes, and their overrides on the command line."""

from __future__ import annotations

from pathlib import Path

from bigs_cli.recipe import dump_recipe, load_recipe, recipe_text
from tests.fuzz.targets.target import Seeds, Target, file_with


def _recipe(path: Path) -> None:
    read = load_recipe(str(path))
    again = path.with_name("again.yaml")
    again.write_text(dump_recipe(read), encoding="utf-8")
    assert load_recipe(str(again)) == read


def _set(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    dump_recipe(load_recipe("demo", [text]))


_SETS = (
    b"steps=1000",
    b"optimizer.learning_rate=1e-4",
    b"model.hidden_size=64",
    b"seed=3",
)
_YAML = (b"extends: mrpc\n", b"- ", b"? ", b"|\n", b">\n", b"{", b"&a ", b"*a", b"<<: ", b"!!str ", b"%TAG ", b"---\n")


def _recipes(folder: Path) -> tuple[Path, Seeds]:
    names = ("demo", "wiki-books-512", "mrpc", "small")
    seeds = [recipe_text(name).encode() for name in names]
    return folder / "mine.yaml", [*seeds, b"extends: demo\nseed: 3\noptimizer:\n  learning_rate: 3e-5\n"]


TARGETS = (
    Target("recipe", _recipes, _recipe, _YAML),
    Target("override of a recipe", file_with("set.txt", *_SETS), _set, (b".", b"=", b"model.", *_YAML)),
)
