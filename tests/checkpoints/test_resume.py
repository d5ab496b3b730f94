"""resume.json: the locations of the inputs of a run, valid in any working directory."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from bigs_cli.checkpoints.resume import locate, record_of, resume_command, resume_command_of, run_recipe, write_record
from bigs_cli.recipe import PretrainRecipe, dump_recipe, load_recipe


def test_locate_prefers_the_recorded_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for place in (first, second):
        (place / "shards").mkdir(parents=True)
    monkeypatch.chdir(second)
    assert locate("shards", str(second / "shards")) == "shards"
    assert locate("shards", str(first / "shards")) == str(first / "shards")
    assert locate("shards", None) == "shards"
    (first / "shards").rmdir()
    assert locate("shards", str(first / "shards")) == "shards"  # The whole project was moved.
    assert locate("owner/name", "owner/name") == "owner/name"


def test_run_recipe_has_valid_paths_in_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, start = tmp_path / "run", tmp_path / "base"
    for place in (run, start, tmp_path / "shards", tmp_path / "valid"):
        place.mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("demo", ["data.path=shards", "data.validation=valid", "from=base"])
    (run / "recipe.yaml").write_text(dump_recipe(recipe))
    assert run_recipe(run) == recipe
    write_record(run, record_of(recipe, "demo"))
    monkeypatch.chdir(run)
    located = run_recipe(run)
    assert isinstance(located, PretrainRecipe)
    places = (located.data.path, located.data.validation, located.from_)
    assert places == tuple(str(tmp_path / name) for name in ("shards", "valid", "base"))


def test_the_resume_command_is_quoted_and_has_the_right_verb(tmp_path: Path) -> None:
    run = tmp_path / "it's a run"
    run.mkdir()
    for recipe, verb in (("demo", "pretrain"), ("mrpc", "finetune")):
        (run / "recipe.yaml").write_text(dump_recipe(load_recipe(recipe)))
        command = resume_command_of(run)
        assert command == resume_command(verb, run)
        assert shlex.split(command) == ["bigs", verb, "--resume", "--run", str(run)]
