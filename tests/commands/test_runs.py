"""`bigs runs`: showing, comparing and plotting runs, and errors for corrupt ones."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from bigs_cli.checkpoints.run import runs
from tests.tiny import bigs, finetune, pretrain, snapshot


@pytest.fixture(scope="module")
def made(shards: Path, pretrained: Path, glue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: base, hot (another learning rate, eight steps), mrpc. Do not modify it."""
    root = tmp_path_factory.mktemp("made")
    shutil.copytree(pretrained, root / "base")
    bigs(*pretrain(shards, root / "hot", steps=8, optimizer__learning_rate=0.02)).fine()
    bigs(*finetune("mrpc", pretrained, glue, root / "mrpc")).fine()
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `made` as $BIGS_RUNS; the working folder is empty."""
    shutil.copytree(made, tmp_path / "all")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("BIGS_RUNS", str(tmp_path / "all"))
    return tmp_path / "all"


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of each line by its first cell; two or more spaces separate the cells."""
    cells = (re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.strip())
    return {first: rest for first, *rest in cells}


def test_show_describes_a_run_and_its_results(root: Path) -> None:
    before = snapshot(root)
    shown = rows(bigs("runs", "show", "base").fine().out)
    assert shown["state"] == ["finished"]
    assert shown["model"][0].startswith("2 gated layers, H 16, I 24, N 4, vocabulary")
    assert shown["batches"] == ["8 × 32 tokens, 6 steps"]
    metrics = json.loads((root / "base" / "results.json").read_text())["metrics"]
    *figures, line = shown["validation loss"]
    assert figures[-1] == f"{metrics['heldout_loss']:.4f}"
    assert set(line) <= set("▁▂▃▄▅▆▇█")
    assert shown["validation accuracy"][-2] == f"{100 * metrics['heldout_accuracy']:.2f}%"
    assert shown["tokens/s"]
    tuned = rows(bigs("runs", "show", root / "mrpc").fine().out)
    assert tuned["kind"] == ["fine-tuning on MRPC"]
    assert tuned["from"] == ["base"]
    assert tuned["dev accuracy"][0].endswith("%")
    assert snapshot(root) == before


def test_linked_runs_are_listed_once_and_broken_links_named(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "mrpc", tmp_path / "elsewhere")
    (root / "mrpc").symlink_to(tmp_path / "elsewhere")
    (root / "a-link").symlink_to("base")
    (root / "all").symlink_to(".")
    (root / "gone").symlink_to("nowhere")
    done = bigs("runs", "list").fine()
    assert rows(done.out).keys() - {"run"} == {"base", "hot", "mrpc"}
    assert done.err == f"{root / 'gone'} is a broken link.\n"
    assert bigs("runs", "show", "a-link").fine().out
    for command in (("runs", "show", "gone"), ("eval", "--model", "gone")):
        done = bigs(*command)
        assert (done.code, done.out) == (2, "")
        assert "gone is a broken link to nowhere" in done.err


def test_a_run_that_is_removed_meanwhile_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kept", "removed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").touch()
    found = Path.glob

    def glob(folder: Path, pattern: str) -> list[Path]:
        paths = list(found(folder, pattern))
        (tmp_path / "removed" / "recipe.yaml").unlink(missing_ok=True)
        return paths

    monkeypatch.setattr(Path, "glob", glob)
    assert [run.path.name for run in runs(tmp_path)] == ["kept"]


def test_show_has_the_majority_baseline(root: Path) -> None:
    done = bigs("runs", "show", "mrpc").fine()
    lines = [json.loads(line) for line in (root / "mrpc" / "predictions.jsonl").read_text().splitlines()]
    most, count = Counter(line["label"] for line in lines).most_common(1)[0]
    accuracy = json.loads((root / "mrpc" / "results.json").read_text())["metrics"]["accuracy"]
    own, baseline, *_ = rows(done.out)["accuracy"]
    assert (own, baseline) == (f"{100 * accuracy:.2f}", f"{100 * count / len(lines):.2f}")
    assert f"The majority baseline for dev always predicts “{most}”, the most frequent label." in done.err
    for line in lines:
        line["prediction"] = "equivalent"
    (root / "mrpc" / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "The model predicts “equivalent” for all 13 dev examples" in bigs("runs", "show", "mrpc").fine().err
    (root / "mrpc" / "predictions.jsonl").unlink()
    assert "There is no majority baseline: mrpc/predictions.jsonl" in bigs("runs", "show", "mrpc").fine().err


def test_counts_of_one_are_singular(root: Path) -> None:
    for epochs, duration in ((1, "1 epoch"), (2, "2 epochs"), (0.5, "0.5 epochs")):
        recipe = root / "mrpc" / "recipe.yaml"
        recipe.write_text(re.sub(r"^epochs: .*$", f"epochs: {epochs}", recipe.read_text(), flags=re.M))
        assert rows(bigs("runs", "show", "mrpc").fine().out)["batches"] == [f"8 × 24 tokens, {duration}"]


def test_listed_names_find_the_runs_and_scores_are_in_percent(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = rows(bigs("runs", "list").fine().out)
    accuracy = json.loads((root / "mrpc" / "results.json").read_text())["metrics"]["accuracy"]
    assert listed["mrpc"] == ["finetune", "mrpc", "finished", f"dev accuracy {100 * accuracy:.2f}%"]
    assert listed["base"][-1].startswith("validation loss ")
    (root / "suite").mkdir()
    shutil.copytree(root / "mrpc", root / "suite" / "seed-1")
    for name in rows(bigs("runs", "list").fine().out).keys() - {"run"}:
        bigs("runs", "show", name).fine()
    monkeypatch.setenv("BIGS_RUNS", "elsewhere")
    for name in rows(bigs("runs", "list", "--root", root).fine().out).keys() - {"run"}:
        assert not name.startswith("/")
        bigs("runs", "show", name).fine()


def test_runs_of_earlier_releases_can_be_read(root: Path) -> None:
    """The names of metrics contained a further split: accuracy_mismatched, dev_accuracy_mismatched."""
    run = root / "mrpc"
    results = json.loads((run / "results.json").read_text())
    for entry in (results, *results["history"]):
        entry["metrics"] = {"accuracy": 0.5, "accuracy_mismatched": 0.25}
        del entry["split"], entry["splits"]
    (run / "results.json").write_text(json.dumps(results))
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for entry in log:
        if "dev_accuracy" in entry:
            entry["dev_accuracy_mismatched"] = 0.25
    (run / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    shown = bigs("runs", "show", "mrpc").fine().out
    assert re.search(r"^accuracy +dev +50\.00 ", shown, re.M)
    assert re.search(r"^accuracy +dev mismatched +25\.00 ", shown, re.M)
    assert rows(shown)["dev mismatched accuracy"][:3] == ["25.00%"] * 3
    assert rows(bigs("runs", "compare", "mrpc", "base").fine().out)["dev mismatched accuracy"] == ["25.00%", "–"]
    bigs("runs", "plot", "--learning", "mrpc", "-o", "it.svg").fine()
    assert ">dev mismatched accuracy<" in Path("it.svg").read_text()


def test_the_state_is_finished_running_or_the_last_step(root: Path) -> None:
    (root / "hot" / "results.json").unlink()
    assert "not finished, step 8 of 8" in bigs("runs", "show", "hot").fine().out
    log = (root / "hot" / "metrics.jsonl").read_text()
    (root / "hot" / "metrics.jsonl").write_text(log.splitlines(keepends=True)[0])
    assert "not finished, step 8 of 8" in bigs("runs", "show", "hot").fine().out  # The step of its checkpoint.
    (root / "hot" / "metrics.jsonl").write_text(log)
    with (root / "hot" / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "running, step 8 of 8" in bigs("runs", "show", "hot").fine().out
        assert "running" in rows(bigs("runs", "list").fine().out)["hot"]
    (root / "hot" / "metrics.jsonl").unlink()
    shutil.rmtree(root / "hot" / "checkpoints")
    assert "before its first step" in bigs("runs", "show", "hot").fine().out


def test_compare_shows_what_differs_and_all_results(root: Path) -> None:
    shown = rows(bigs("runs", "compare", "base", "hot").fine().out)
    assert shown["optimizer.learning_rate"] == ["0.002", "0.02"]
    assert shown["steps"] == ["6", "8"]
    assert "seed" not in shown
    assert len(shown["validation loss"]) == 2
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
    assert shown["settings.XLA_FLAGS"] == [os.environ["XLA_FLAGS"], "--xla_x=1"]
    assert shown["runtime"][1] == "cuda-99"
    assert shown["shards"][1].startswith("fff")


def test_compare_uses_the_last_metrics_of_an_unfinished_run(root: Path) -> None:
    (root / "hot" / "results.json").unlink()
    shown = bigs("runs", "compare", "base", "hot", "mrpc").fine().out
    assert "8 (not finished)" in shown
    assert len(rows(shown)["validation loss"]) == 3


@pytest.mark.parametrize("runs", [("base",), ("base", "hot"), ("mrpc",), ("base", "mrpc")])
def test_plot_draws_png_and_svg(root: Path, runs: tuple[str, ...]) -> None:
    done = bigs("runs", "plot", *runs).fine()
    assert done.out == "runs.png\n"
    assert Path("runs.png").read_bytes().startswith(b"\x89PNG")
    assert "▁" in done.err
    bigs("runs", "plot", *runs, "--output", "new/curves.svg").fine()
    text = Path("new/curves.svg").read_text()
    assert all(f">{word}<" in text for word in ("learning rate", "tokens per second"))
    assert f">{', '.join(runs)}: training<" in text
    assert (">MRPC loss<" in text) == (">dev, in percent<" in text) == ("mrpc" in runs)
    assert (">pretraining loss<" in text) == (">validation<" in text) == ("base" in runs)
    assert "/" not in "".join(re.findall(r">([^<>]+)</text>", text))


def test_equal_plots_are_equal_files(root: Path) -> None:
    for name in ("a.svg", "b.svg"):
        bigs("runs", "plot", "base", "-o", name).fine()
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()


def test_corrupt_files_are_reported(root: Path) -> None:
    log = root / "base" / "metrics.jsonl"
    whole = log.read_text()
    log.write_text("3\n" + whole)
    done = bigs("runs", "show", "base")
    assert (done.code, done.out) == (2, "")
    assert f'{log}:1 is not a JSON object with a "step". Correct or remove this line.' in done.err
    log.write_text(whole + '{"step": 7, "lo')  # cut off by a crash
    bigs("runs", "show", "base").fine()
    log.write_text("")
    done = bigs("runs", "plot", "base")
    assert done.code == 2
    assert "base has not logged anything yet" in done.err
    (root / "hot" / "results.json").write_text("[]")
    assert "results.json is not a JSON object" in bigs("runs", "show", "hot").err
    (root / "hot" / "results.json").write_text("{")
    assert "results.json is not JSON" in bigs("runs", "show", "hot").err
    (root / "mrpc" / "environment.json").unlink()
    assert "environment.json cannot be read" in bigs("runs", "compare", "base", "mrpc").err
    (root / "mrpc" / "recipe.yaml").write_text("kind: finetune\n")
    listed = bigs("runs", "list").fine().out
    assert "cannot be read: bigs runs show mrpc" in listed
    assert "base" in rows(listed)


def test_a_plot_that_cannot_be_written_is_refused(root: Path) -> None:
    Path("file").touch()
    done = bigs("runs", "plot", "base", "-o", "file/p.png")
    assert (done.code, done.out) == (2, "")
    assert "file/p.png cannot be written" in done.err
