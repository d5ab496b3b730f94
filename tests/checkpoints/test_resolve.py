"""How a MODEL on the command line is resolved: the order of the places, and the errors."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from bigs_cli.checkpoints.config_json import write_config
from bigs_cli.checkpoints.folder import write_flax
from bigs_cli.checkpoints.resolve import PUBLISHED, find_model, open_model
from bigs_cli.core.errors import RequestError
from bigs_cli.recipe import dump_recipe, load_recipe
from tests.checkpoints.tiny import config, parameters, same


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with `here` as the runs folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIGS_RUNS", "here")
    return tmp_path / "here"


def make_run(place: Path, recipe: str, age: int, finished: bool = True) -> Path:
    """Create the files of a run that `find_model` needs, with a recipe that is `age` hours old."""
    place.mkdir(parents=True)
    (place / "recipe.yaml").write_text(dump_recipe(load_recipe(recipe)))
    if finished:
        (place / "results.json").write_text("{}")
    written = 1e9 - 3600 * age
    os.utime(place / "recipe.yaml", (written, written))
    return place


def make_model(place: Path) -> Path:
    place.mkdir(parents=True)
    write_flax(place, config(), parameters(config()))
    return place


def test_a_folder_has_the_highest_precedence(root: Path) -> None:
    make_run(root / "mnli", "mnli", age=1)
    make_model(Path("mnli"))
    found = find_model("mnli")
    assert (found.folder, found.run, found.repo) == (Path("mnli"), None, None)
    assert found.why == "mnli (a model folder)"


def test_then_a_run_name_even_if_the_run_is_not_finished(root: Path) -> None:
    make_run(root / "mnli", "mrpc", age=3, finished=False)
    make_run(root / "newer", "mnli", age=1)
    found = find_model("mnli")
    assert found.run is not None
    assert found.run.path == Path("here/mnli")
    assert found.why == "here/mnli (a run)"


def test_then_the_newest_finished_run_of_the_task(root: Path) -> None:
    make_run(root / "a", "mnli", age=4)
    make_run(root / "b", "mnli-128", age=3)
    make_run(root / "c", "mnli", age=2, finished=False)
    make_run(root / "d", "mrpc", age=1)
    make_run(root / "e", "small", age=0)
    for name in ("mnli", "MNLI"):
        found = find_model(name)
        assert found.run is not None
        assert found.run.path == Path("here/b")
        assert found.why == f"here/b (the newest finished {name} run)"


def test_only_models_on_the_hub_have_revisions(root: Path) -> None:
    make_run(root / "newer", "mnli", age=1)
    assert find_model("mnli@v1").repo == f"{PUBLISHED['mnli']}@v1"
    assert find_model("someone/model@refs/pr/1").repo == "someone/model@refs/pr/1"
    make_model(Path("mine"))
    for name, why in (("mine", "mine (a model folder)"), ("newer", "here/newer (a run)")):
        with pytest.raises(RequestError) as error:
            find_model(f"{name}@v1")
        expected = f"{why} is local and has no revision 'v1': only models on the hub"
        assert str(error.value).startswith(expected)


def test_then_a_published_model(root: Path) -> None:
    make_run(root / "c", "mnli", age=2, finished=False)
    found = find_model("mnli")
    assert (found.run, found.folder, found.repo) == (None, None, "JunxiongWang/BiGS_512_MNLI")
    assert found.why == "JunxiongWang/BiGS_512_MNLI (published; there is no finished mnli run in here/)"


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_short_name(name: str) -> None:
    found = find_model(name)
    assert found.repo == PUBLISHED[name]
    assert PUBLISHED[name] in found.why


@pytest.mark.parametrize("name", ["someone/model", "someone/model@v1", "someone/model@refs/pr/3"])
def test_then_a_hub_id(name: str) -> None:
    assert find_model(name).repo == name


def test_runs_and_models_are_found_by_path(root: Path) -> None:
    run, folder = make_run(root.parent / "elsewhere" / "r", "small", age=1), make_model(root.parent / "m")
    assert find_model(str(run)).run is not None
    assert find_model(str(folder)).folder == folder
    (folder / "config.json").unlink()
    with pytest.raises(RequestError, match=r"There is no config\.json in .*m"):
        open_model(find_model(str(folder)))


def test_a_model_folder_is_opened(root: Path) -> None:
    opened = open_model(find_model(str(make_model(root / "m"))))
    assert opened.config == config()
    assert same(opened.flat, parameters(config()))
    assert (opened.source, opened.run, opened.tokenizer) == (str(root / "m" / "flax_model.msgpack"), None, None)


def test_without_a_name_the_newest_finished_run_is_used(root: Path) -> None:
    with pytest.raises(RequestError, match=r"There is no finished run in here/\. Name a model with --model, or"):
        find_model(None)
    make_run(root / "a", "small", age=3)
    make_run(root / "b", "rte", age=2)
    make_run(root / "c", "small", age=1, finished=False)
    found = find_model(None)
    assert found.run is not None
    assert (found.run.path, found.why) == (Path("here/b"), "here/b (the newest finished run)")


@pytest.mark.parametrize(
    ("name", "near"), [("mnly", "mnli"), ("bigs-51", "bigs-512"), ("my-rnu", "my-run"), ("qqqqqqqq", None)]
)
def test_an_unknown_name_is_reported(name: str, near: str | None, root: Path) -> None:
    make_run(root / "my-run", "small", age=1)
    with pytest.raises(RequestError) as error:
        find_model(name)
    message = str(error.value)
    assert message.startswith(f"There is no model '{name}'.")
    assert (f"Did you mean '{near}'?" in message) if near else ("Did you mean" not in message)
    assert "`bigs runs list`" in message


def test_a_folder_without_a_run_or_model_is_rejected(root: Path) -> None:
    Path("notes/old").mkdir(parents=True)
    for name in ("notes", "notes/old"):
        with pytest.raises(
            RequestError, match=re.escape(f"The folder {name} contains neither a run (recipe.yaml) nor")
        ):
            find_model(name)


def test_a_run_with_a_corrupt_recipe_does_not_hide_others(root: Path) -> None:
    make_run(root / "good", "mnli", age=2)
    (make_run(root / "corrupt", "mnli", age=1) / "recipe.yaml").write_text("task: [")
    found = find_model("mnli")
    assert found.run is not None
    assert found.run.path == Path("here/good")


def test_a_run_without_a_checkpoint_is_reported(root: Path) -> None:
    write_config(make_run(root / "r", "small", age=1, finished=False) / "config.json", config())
    with pytest.raises(RequestError, match=r"There is no checkpoint in .*: the run stopped before its first one"):
        open_model(find_model("r"))


def test_a_step_of_a_run_whose_path_has_an_at_sign(tmp_path: Path) -> None:
    run = tmp_path / "me@corp" / "run"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text("kind: pretrain")
    found = find_model(f"{run}@6")
    assert found.run is not None
    assert (found.run.path, found.step) == (run, 6)
    remote = find_model("memory://b/run@6")
    assert (remote.url, remote.step) == ("memory://b/run", 6)
