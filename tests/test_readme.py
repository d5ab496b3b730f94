"""Every command, option and recipe named in README.md, docs/ and the recipes exists, and every link has a target."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from bigs_cli.cli import app
from bigs_cli.recipe import recipe_text
from bigs_cli.recipe.reference import MARK, reference
from tests.tiny import ROOT

_COMMAND = re.compile(r"^\s*(?:\$ |# Run: )?(?:[A-Z_]+=\S+ )*bigs ((?:[^\n]*\\\n)*[^\n]*)$", re.MULTILINE)
_SHELL = re.compile(r"\s(?:#|\||>|&&).*$", re.DOTALL)


def commands(path: Path) -> list[list[str]]:
    """Return the arguments of every `bigs` command in the code blocks of a page."""
    text = path.read_text(encoding="utf-8")
    code = re.findall(r"```(?:bash|console)\n(.*?)```", text, re.DOTALL) if path.suffix == ".md" else [text]
    lines = (found.replace("\\\n", " ") for block in code for found in _COMMAND.findall(block))
    return [shlex.split(_SHELL.sub("", line)) for line in lines if line.strip()]


def parse(words: list[str]) -> list[str]:
    """Parse as the command line does, without checking values; return the command's name and its arguments."""
    command, path = get_command(app), ["bigs"]
    while hasattr(command, "commands") and words:
        words = command.kind_first(words) if hasattr(command, "kind_first") else words
        assert words[0] in command.commands, f"there is no command {words[0]}"
        path.append(words[0])
        command, words = command.commands[words[0]], words[1:]
    context = type(command).context_class(command, info_name=path[-1])
    _, rest, _ = command.make_parser(context).parse_args(list(words))
    return [*path[1:], *rest]


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FILES = [*PAGES, *sorted((ROOT / "recipes").rglob("*.yaml"))]
ALL = [pytest.param(words, id=f"{path.name}: {shlex.join(words)[:60]}") for path in FILES for words in commands(path)]


def test_commands_are_found_in_the_documentation() -> None:
    assert len(ALL) > 60
    verbs = {words.values[0][0] for words in ALL}  # type: ignore[index]
    assert verbs >= {"tokenize", "pretrain", "finetune", "eval", "predict", "export", "runs"}


@pytest.mark.parametrize("words", ALL)
def test_every_documented_command_exists(words: list[str]) -> None:
    parse(words)
    for option, value in itertools.pairwise(words):
        if option == "--recipe" and "/" not in value and not value.endswith((".yaml", "…", "NAME")):
            assert recipe_text(value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_point_to_existing_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_recipe_reference_is_up_to_date() -> None:
    """If this fails, run: python -m bigs_cli.recipe.reference."""
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert text[text.index(MARK) :] == reference()


def test_unknown_commands_and_options_are_detected() -> None:
    with pytest.raises(AssertionError, match="no command pretran"):
        parse(["pretran"])
    with pytest.raises(Exception, match="No such option"):
        parse(["pretrain", "--recipee", "small"])
