"""`bigs bench recipes` with two tiny recipes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from bigs_cli.bench.recipes import Measure, read_results
from bigs_cli.core.errors import RequestError
from tests.evaluation.test_pairs import blimp
from tests.tiny import ROOT, SETS, Done, bigs


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Run the commands of the steps in this process, which is faster, and return them."""
    run, ran = subprocess.run, []

    def here(command: list[str], **options: Any) -> Any:
        if command[1:3] != ["-m", "bigs_cli"]:
            return run(command, **options)
        ran.append(command[3:])
        done = bigs(*command[3:])
        return subprocess.CompletedProcess(command, done.code, done.out, done.err)

    monkeypatch.setattr(subprocess, "run", here)
    return ran


@pytest.fixture
def compare(shards: Path, glue: Path, tmp_path: Path) -> Callable[..., Done]:
    """Return a function that compares a gated and a stacked model, with one task and BLiMP, and two seeds."""
    size = json.loads((shards / "manifest.json").read_text())["vocab_size"]
    keys = {**SETS, "model.vocab_size": size, "steps": 3, "evaluate.every_steps": 1000}
    tree: dict[str, Any] = {"extends": "demo"}
    for key, value in keys.items():
        *path, last = key.split(".")
        place = tree
        for name in path:
            place = place.setdefault(name, {})
        place[last] = value
    (tmp_path / "gated.yaml").write_text(json.dumps(tree))
    tree["model"]["block"] = "stacked"
    (tmp_path / "stacked.yaml").write_text(json.dumps(tree))
    task = {"extends": "_glue", "task": "cola", "sequence_length": 24, "epochs": 1, "batch_size": 8}
    (tmp_path / "cola-tiny.yaml").write_text(json.dumps(task))
    (tmp_path / "pairs.jsonl").write_text(f"{json.dumps(blimp('one'))}\n{json.dumps(blimp('two'))}\n")

    def run(*more: object) -> Done:
        recipes = (tmp_path / "gated.yaml", tmp_path / "stacked.yaml", "--data", shards, "--output", tmp_path / "runs")
        task = (
            "--task",
            tmp_path / "cola-tiny.yaml",
            "--task-data",
            glue,
            "--blimp",
            tmp_path / "pairs.jsonl",
            "--blimp-limit",
            1,
        )
        return bigs("bench", "recipes", *recipes, *task, "--seeds", 2, *more)

    return run


def test_recipes_are_compared(compare: Callable[..., Done], commands: list[list[str]], tmp_path: Path) -> None:
    done = compare("--json", tmp_path / "recipes.json", "--plot", tmp_path / "recipes.svg").fine()
    measures = {one["measure"]: one for one in json.loads((tmp_path / "recipes.json").read_text())["measures"]}
    loss = measures["validation loss, nats"]
    of = {
        name: [
            json.loads((tmp_path / "runs" / name / f"seed-{seed}" / "pretrained" / "results.json").read_text())
            for seed in (42, 43)
        ]
        for name in ("gated", "stacked")
    }
    expected = {
        name: {str(seed): run["metrics"]["heldout_loss"] for seed, run in zip((42, 43), runs, strict=True)}
        for name, runs in of.items()
    }
    assert loss["values"] == expected
    both = (list(values.values()) for values in expected.values())
    assert loss["p_values"]["stacked"] == pytest.approx(ttest_rel(*both)[1])
    assert [*measures["parameters, millions"]["values"]["gated"].values()] == [run["parameters"] for run in of["gated"]]
    for name in ("CoLA Matthews correlation, %", "BLiMP accuracy, %", "prediction, 1,000 tokens/s"):
        assert [len(values) for values in measures[name]["values"].values()] == [2, 2], name
        assert name in done.out
        assert name in (tmp_path / "recipes.svg").read_text()
    pairs = json.loads((tmp_path / "runs" / "gated" / "seed-42" / "blimp.json").read_text())
    assert pairs["metrics"]["n"] == 1
    assert len(commands) == 2 * 2 * 4
    commands.clear()
    interrupted = tmp_path / "runs" / "stacked" / "seed-43" / "cola-tiny"
    (interrupted / "results.json").unlink()
    again = compare("--format", "markdown").fine()
    assert commands == [["finetune", "--run", str(interrupted), "--resume"]]
    assert "| validation loss, nats |" in again.out
    assert "over 2 seeds; p: paired t-test against gated." in again.out
    commands.clear()
    partly = json.loads((tmp_path / "recipes.json").read_text())
    for one in partly["measures"]:
        del one["values"]["stacked"]
        one["values"]["gated"]["44"] = one["values"]["gated"].pop("43")
    (tmp_path / "partly.json").write_text(json.dumps(partly))
    files = [word for name in ("recipes", "partly") for word in ("--add-results", tmp_path / f"{name}.json")]
    more = compare("--seeds", 0, *files, "--json", tmp_path / "more.json").fine()
    assert "over 2 to 3 seeds" in more.out
    assert commands == []
    added = {one["measure"]: one for one in json.loads((tmp_path / "more.json").read_text())["measures"]}
    assert added["validation loss, nats"]["values"]["gated"].keys() == {"42", "43", "44"}
    assert added["validation loss, nats"]["values"]["stacked"] == expected["stacked"]
    assert added["validation loss, nats"]["p_values"] == loss["p_values"]
    partly["measures"].pop()
    (tmp_path / "partly.json").write_text(json.dumps(partly))
    fewer = compare("--seeds", 0, "--add-results", tmp_path / "partly.json", "--plot", tmp_path / "partly.svg").fine()
    assert "prediction, 1,000 tokens/s" in more.out
    assert "prediction, 1,000 tokens/s" not in fewer.out
    assert "gated" in (tmp_path / "partly.svg").read_text()
    assert "With --seeds 0, nothing is run" in compare("--seeds", 0).err
    changed = json.loads((tmp_path / "recipes.json").read_text())
    same = {**changed["settings"], "sets": ["seed=44"]}
    assert len(read_results([tmp_path / "recipes.json"], same)) == 1
    earlier = list((ROOT / "docs" / "results").glob("recipes-*.json"))
    settings = json.loads(earlier[0].read_text())["settings"]
    assert len(read_results(earlier, {**settings, "digests": same["digests"]})) == len(earlier)
    for what in ("--data", "recipe gated"):
        with pytest.raises(RequestError, match=f"recipes.json were made with another value of {what}, so they cannot"):
            read_results([tmp_path / "recipes.json"], same | {"digests": {**same["digests"], what: "another"}})
    empty = ("--seeds", 0, "--output", tmp_path / "none", "--add-results", tmp_path / "recipes.json")
    compare(*empty).fine()
    assert not (tmp_path / "none").exists()
    changed["settings"]["sets"] = ["steps=4"]
    no_report, other = "was not written by `bigs bench recipes --json`", "belongs to another comparison"
    for content, message in (("{}", no_report), (json.dumps(changed), other)):
        (tmp_path / "other.json").write_text(content)
        assert message in compare("--add-results", tmp_path / "other.json").err
    commands.clear()
    (tmp_path / "elsewhere.jsonl").write_text((tmp_path / "pairs.jsonl").read_text())
    other = compare("--set", "steps=4", "--blimp", tmp_path / "elsewhere.jsonl")
    assert (other.code, commands) == (2, [])
    assert "another value of --blimp, recipe gated, recipe stacked. Use the same value, or another folder" in other.err


def test_recipes_of_the_wrong_kind_are_refused(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text('{"extends": "small"}')
    ask = ("bench", "recipes", "--data", shards, "--output", tmp_path / "runs")
    assert "cola-small is for fine-tuning" in bigs(*ask, "small", "cola-small").err
    assert "small-stacked-ssm is for pretraining" in bigs(*ask, "small", "--task", "small-stacked-ssm").err
    assert "Two recipes have the name small" in bigs(*ask, "small", tmp_path / "small.yaml").err
    assert "Two recipes have the name small" in bigs(*ask, "small", "small").err
    assert not (tmp_path / "runs").exists()


SCORES = st.integers(-5000, 5000).map(lambda thousandths: thousandths / 1000)  # SciPy's p is 0 where squares underflow


@given(st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=6))
def test_p_values_are_those_of_scipy(pairs: list[tuple[float, float]]) -> None:
    first, second = zip(*pairs, strict=True)
    measure = Measure("score", {"a": {**dict(enumerate(first)), -1: 7.0}, "b": dict(enumerate(second))})
    assert measure.p_value("a") is None
    found = measure.p_value("b")
    if found is not None:
        assert found == pytest.approx(ttest_rel(second, first)[1], rel=1e-6, abs=1e-12)
    else:
        assert len({b - a for a, b in pairs}) < 2
