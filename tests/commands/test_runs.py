"""`bigs runs`: what is shown, compared and drawn of runs, and what is said of spoilt ones."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

import pytest

from tests.tiny import bigs, finetune, pretrain, snapshot


@pytest.fixture(scope="module")
def made(shards: Path, pretrained: Path, glue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: base, hot (another learning rate, eight steps), mrpc. Read it only."""
    root = tmp_path_factory.mktemp("made")
    shutil.copytree(pretrained, root / "base")
    bigs(*pretrain(shards, root / "hot", steps=8, optimizer__learning_rate=0.02)).fine()
    bigs(*finetune("mrpc", pretrained, glue, root / "mrpc")).fine()
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `made`, which $BIGS_RUNS names, in an empty working folder."""
    shutil.copytree(made, tmp_path / "all")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("BIGS_RUNS", str(tmp_path / "all"))
    return tmp_path / "all"


def rows(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}


def test_show_tells_what_a_run_is_and_how_it_went(root: Path) -> None:
    before = snapshot(root)
    shown = rows(bigs("runs", "show", "base").fine().out)
    assert shown["state"] == ["finished"]
    assert " ".join(shown["model"]).startswith("2 layers, H 16, I 24, N 4, vocabulary")
    assert shown["batches"] == ["8", "×", "32", "tokens,", "6", "steps"]
    result = json.loads((root / "base" / "results.json").read_text())["metrics"]["heldout_loss"]
    *figures, line = shown["heldout_loss"]
    assert figures[-1] == f"{result:.4f}"
    assert set(line) <= set("▁▂▃▄▅▆▇█")
    assert shown["tokens_per_second"]
    tuned = rows(bigs("runs", "show", root / "mrpc").fine().out)
    assert tuned["kind"] == ["fine-tuning", "on", "MRPC"]
    assert tuned["dev_accuracy"]
    assert snapshot(root) == before


def test_linked_runs_are_listed_once_and_broken_links_named(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "mrpc", tmp_path / "elsewhere")
    (root / "mrpc").symlink_to(tmp_path / "elsewhere")
    (root / "a-link").symlink_to("base")
    (root / "all").symlink_to(".")
    (root / "gone").symlink_to("nowhere")
    done = bigs("runs", "list").fine()
    shown = [Path(name).name for name in rows(done.out) if "/" in name]
    assert sorted(shown) == ["base", "hot", "mrpc"]
    assert done.err == f"{root / 'gone'} is a link that leads nowhere.\n"
    assert bigs("runs", "show", "a-link").fine().out
    for command in (("runs", "show", "gone"), ("eval", "--model", "gone")):
        done = bigs(*command)
        assert (done.code, done.out) == (2, "")
        assert "gone is a link that leads nowhere (nowhere)" in done.err


def test_the_state_is_finished_running_or_where_it_stopped(root: Path) -> None:
    (root / "hot" / "results.json").unlink()
    assert "not finished, step 8 of 8" in bigs("runs", "show", "hot").fine().out
    with (root / "hot" / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "running, step 8 of 8" in bigs("runs", "show", "hot").fine().out
        assert "running" in rows(bigs("runs", "list").fine().out)[str(root / "hot")]
    (root / "hot" / "metrics.jsonl").unlink()
    assert "before its first step" in bigs("runs", "show", "hot").fine().out


def test_compare_shows_what_differs_and_all_results(root: Path) -> None:
    shown = rows(bigs("runs", "compare", "base", "hot").fine().out)
    assert shown["optimizer.learning_rate"] == ["0.002", "0.0200"]
    assert shown["steps"] == ["6", "8"]
    assert "seed" not in shown
    assert len(shown["metrics.heldout_loss"]) == 2
    environment = root / "hot" / "environment.json"
    read = json.loads(environment.read_text())
    environment.write_text(json.dumps(read | {"packages": read["packages"] | {"jax": "0.1"}}))
    assert rows(bigs("runs", "compare", "base", "hot").fine().out)["packages.jax"][1] == "0.1"
    same = bigs("runs", "compare", root / "base", "base").fine().out
    assert "recipes: no difference" in same
    assert "environments: no difference" in same
    assert "data: no difference" in same


def test_compare_says_why_two_runs_differ(root: Path) -> None:
    environment, results = root / "hot" / "environment.json", root / "hot" / "results.json"
    read, ended = json.loads(environment.read_text()), json.loads(results.read_text())
    assert len(read["code"]) == 16
    assert len(json.loads((root / "mrpc" / "environment.json").read_text())["start"]) == 16
    changes = {"code": "0" * 16, "settings": read["settings"] | {"XLA_FLAGS": "--xla_x=1"}, "runtime": "cuda-99"}
    environment.write_text(json.dumps(read | changes))
    results.write_text(json.dumps(ended | {"data": ended["data"] | {"shards": "f" * 64}}))
    shown = rows(bigs("runs", "compare", "base", "hot").fine().out)
    assert shown["code"] == [read["code"], "0" * 16]
    assert shown["settings.XLA_FLAGS"] == ["–", "--xla_x=1"]
    assert shown["runtime"][1] == "cuda-99"
    assert shown["shards"][1].startswith("fff")


def test_compare_takes_the_last_figures_of_a_run_that_is_not_finished(root: Path) -> None:
    (root / "hot" / "results.json").unlink()
    shown = bigs("runs", "compare", "base", "hot", "mrpc").fine().out
    assert "8 (not finished)" in shown
    assert len(rows(shown)["metrics.heldout_loss"]) == 3


@pytest.mark.parametrize("runs", [("base",), ("base", "hot"), ("mrpc",), ("base", "mrpc")])
def test_plot_draws_png_and_svg(root: Path, runs: tuple[str, ...]) -> None:
    done = bigs("runs", "plot", *runs).fine()
    assert done.out == "runs.png\n"
    assert Path("runs.png").read_bytes().startswith(b"\x89PNG")
    assert "▁" in done.err
    bigs("runs", "plot", *runs, "--output", "new/curves.svg").fine()
    text = Path("new/curves.svg").read_text()
    assert all(f">{word}<" in text for word in (*runs, "loss", "learning rate", "tokens per second"))
    assert (">dev sets<" in text) == ("mrpc" in runs)
    assert (">held out<" in text) == ("base" in runs)


def test_equal_runs_are_drawn_as_equal_files(root: Path) -> None:
    for name in ("a.svg", "b.svg"):
        bigs("runs", "plot", "base", "-o", name).fine()
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()


def test_spoilt_files_are_sentences(root: Path) -> None:
    course = root / "base" / "metrics.jsonl"
    whole = course.read_text()
    course.write_text("3\n" + whole)
    done = bigs("runs", "show", "base")
    assert (done.code, done.out) == (2, "")
    assert f'{course}:1: no JSON object with a "step". Mend or remove this line.' in done.err
    course.write_text(whole + '{"step": 7, "lo')  # cut off by a crash
    bigs("runs", "show", "base").fine()
    course.write_text("")
    done = bigs("runs", "plot", "base")
    assert done.code == 2
    assert "base has logged nothing yet" in done.err
    (root / "hot" / "results.json").write_text("[]")
    assert "results.json holds no JSON object" in bigs("runs", "show", "hot").err
    (root / "hot" / "results.json").write_text("{")
    assert "results.json is no JSON" in bigs("runs", "show", "hot").err
    (root / "mrpc" / "environment.json").unlink()
    assert "environment.json cannot be read" in bigs("runs", "compare", "base", "mrpc").err
    (root / "mrpc" / "recipe.yaml").write_text("kind: finetune\n")
    listed = bigs("runs", "list").fine().out
    assert f"cannot be read: bigs runs show {root / 'mrpc'}" in listed
    assert str(root / "base") in listed


def test_a_picture_that_cannot_be_written(root: Path) -> None:
    Path("file").touch()
    done = bigs("runs", "plot", "base", "-o", "file/p.png")
    assert (done.code, done.out) == (2, "")
    assert "file/p.png cannot be written" in done.err
