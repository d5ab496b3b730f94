"""`bigs recipes` through its Typer application."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from bigs_cli.commands.recipes import app
from bigs_cli.core.errors import RequestError
from bigs_cli.recipe import load_recipe, recipe_names, recipe_text


def run(*arguments: str) -> Result:
    """Run `bigs recipes …`, and raise the errors that the command line turns into exit codes."""
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_list_has_one_line_per_recipe() -> None:
    header, *lines = run("list").stdout.splitlines()
    assert header.split()[:2] == ["NAME", "KIND"]
    assert [line.split()[0] for line in lines] == recipe_names()
    only = run("list", "--kind", "pretrain").stdout.splitlines()[1:]
    assert [line.split()[:2] for line in only] == [[name, "pretrain"] for name in recipe_names("pretrain")]


def test_show_prints_the_file_or_every_value() -> None:
    assert run("show", "mrpc").stdout == recipe_text("mrpc")
    Path("full.yaml").write_text(run("show", "mrpc", "--resolved").stdout)
    assert load_recipe("full.yaml") == load_recipe("mrpc")
    assert run("show", "full.yaml").stdout == Path("full.yaml").read_text()


def test_copy_overwrites_only_with_force() -> None:
    assert run("copy", "mrpc").stdout == "mrpc.yaml\n"
    assert load_recipe("mrpc.yaml") == load_recipe("mrpc")
    Path("mrpc.yaml").write_text("mine")
    with pytest.raises(RequestError, match=r"mrpc.yaml already exists.*--force"):
        run("copy", "mrpc")
    assert Path("mrpc.yaml").read_text() == "mine"
    run("copy", "mrpc", "--force")
    assert load_recipe("mrpc.yaml") == load_recipe("mrpc")


def test_copy_into_a_folder_and_under_a_name() -> None:
    Path("own").mkdir()
    assert run("copy", "small", "own").stdout == "own/small.yaml\n"
    assert run("copy", "small", "own/b.yml").stdout == "own/b.yml\n"
    with pytest.raises(RequestError, match=r"Name the file own/c.yaml"):
        run("copy", "small", "own/c")
    with pytest.raises(RequestError, match="There is no recipe 'smal'"):
        run("copy", "smal")
    assert sorted(path.name for path in Path("own").iterdir()) == ["b.yml", "small.yaml"]


def test_validate_names_every_problem_of_every_file() -> None:
    Path("good.yaml").write_text("extends: small\n")
    Path("bad.yaml").write_text("extends: small\nstep: 1\n")
    Path("worse.yaml").write_text("kind: x\n")
    assert run("validate", "good.yaml", "small").stdout.splitlines() == [
        "good.yaml: a valid pretrain recipe",
        "small: a valid pretrain recipe",
    ]
    with pytest.raises(RequestError) as caught:
        run("validate", "bad.yaml", "good.yaml", "worse.yaml")
    assert "bad.yaml:2:1: There is no key 'step'" in str(caught.value)
    assert "worse.yaml:1:7: 'kind' is 'x'" in str(caught.value)


def test_validate_without_an_argument_checks_every_shipped_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("validate")
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == recipe_names()
    assert "bigs recipes validate mine.yaml" in done.stderr
    Path("bad.yaml").write_text("extends: small\nstep: 1\n")
    monkeypatch.setattr("bigs_cli.recipe.recipe_names", lambda: ["small", "./bad.yaml"])
    with pytest.raises(RequestError, match="There is no key 'step'"):
        run("validate")


@pytest.mark.parametrize("verb", ["list", "show", "copy", "validate"])
def test_help_ends_with_an_example(verb: str) -> None:
    assert f"Example: bigs recipes {verb}" in run(verb, "--help").stdout
