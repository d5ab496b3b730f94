"""The whole lifecycle through the real entry point: tokenize → pretrain → finetune → evaluate → export."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli import load_model
from bigs_cli.checkpoints.orbax import steps
from bigs_cli.recipe import FinetuneRecipe, PretrainRecipe, load_recipe
from bigs_cli.reporting.metrics_log import read_metrics
from bigs_cli.tasks import get_task
from tests.hub_server import Hub, serving
from tests.tiny import HANG, LENGTH, bigs, finetune, parameters, pretrain, start_bigs


@pytest.fixture(scope="module")
def tuned(pretrained: Path, glue: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished fine-tuning run of each task, by task name. Do not modify them."""
    root = tmp_path_factory.mktemp("tuned")
    runs = {task: root / task for task in ("cola", "mrpc", "stsb", "mnli")}
    for task, run in runs.items():
        assert bigs(*finetune(task, pretrained, glue, run)).fine().out == f"{run}\n"
    return runs


def results(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text())


def measured(*arguments: object) -> dict[str, float]:
    return json.loads(bigs("eval", *arguments, "--json").fine().out)["metrics"]


def test_eval_mlm_reproduces_the_metrics_of_a_run(pretrained: Path, shards: Path) -> None:
    ended = results(pretrained)["metrics"]
    metrics = measured("mlm", "--model", pretrained, "--data", shards)
    assert {f"heldout_{name}": value for name, value in metrics.items() if name != "unigram_loss"} == ended
    assert metrics["loss"] == pytest.approx(np.log(metrics["perplexity"]))
    shown = bigs("eval", "mlm", "--model", pretrained).fine()
    assert f"{metrics['loss']:.4f}" in shown.out
    assert str(pretrained) in shown.err


def test_every_evaluation_uses_all_held_out_rows(shards: Path, pretrained: Path, tmp_path: Path) -> None:
    held_out = [e for e in read_metrics(pretrained / "metrics.jsonl") if "heldout_loss" in e]
    assert [entry["step"] for entry in held_out] == [3, 6]
    assert len({entry["heldout_predictions"] for entry in held_out}) == 1
    bigs(*pretrain(shards, tmp_path / "run", evaluate__max_batches=1, steps=4)).fine()
    first, last = (
        e["heldout_predictions"] for e in read_metrics(tmp_path / "run" / "metrics.jsonl") if "heldout_loss" in e
    )
    assert first < last == held_out[0]["heldout_predictions"]


@pytest.mark.parametrize("task", ["cola", "mrpc", "stsb", "mnli"])
def test_eval_reproduces_the_metrics_of_a_run(tuned: dict[str, Path], glue: Path, task: str) -> None:
    assert measured(task, "--model", tuned[task], "--data", glue) == results(tuned[task])["metrics"]


def test_an_unfinished_run_is_evaluated_with_its_own_data_and_length(
    tuned: dict[str, Path], pretrained: Path, glue: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(tuned["mrpc"], tmp_path / "run")
    (run / "results.json").unlink()
    shutil.rmtree(run / "checkpoints")  # The best parameters are used.
    assert measured("--model", run) == results(tuned["mrpc"])["metrics"]
    bigs(*finetune("mrpc", pretrained, glue, tmp_path / "student", "--teacher", run)).fine()


def test_the_best_checkpoint_is_kept_and_used(tuned: dict[str, Path], glue: Path) -> None:
    for task, run in tuned.items():
        ended = results(run)
        history = ended["history"]
        metric = get_task(task).metrics[0]
        best = max(entry["metrics"][metric] for entry in history)
        first = next(entry for entry in history if entry["metrics"][metric] == best)
        assert (ended["step"], ended["metrics"]) == (first["step"], first["metrics"])
        assert steps(run / "best") == [ended["step"]]
        assert steps(run / "checkpoints") == [ended["steps"]]
        assert f"best checkpoint (step {ended['step']})" in json.dumps(load_model(run).source)
    worse = [task for task, run in tuned.items() if results(run)["step"] != results(run)["steps"]]
    assert worse, "the last evaluation of every tiny run was the best, so best and last checkpoint do not differ"
    last, kept = (parameters(tuned[worse[0]] / name) for name in ("checkpoints", "best"))
    assert any(not np.array_equal(last[path], kept[path]) for path in kept)


def test_regression_has_one_output_and_reports_correlations(tuned: dict[str, Path]) -> None:
    model = load_model(tuned["stsb"])
    assert model(np.ones((2, 8), np.int32)).logits.shape == (2, 1)
    assert sorted(results(tuned["stsb"])["metrics"]) == ["pearson", "spearman"]


def test_mnli_is_evaluated_on_both_dev_sets(tuned: dict[str, Path], glue: Path) -> None:
    mnli = results(tuned["mnli"])
    assert list(mnli["metrics"]) == ["accuracy"]
    assert mnli["splits"]["dev"] == mnli["metrics"]
    assert mnli["splits"].keys() == {"dev", "dev_mismatched"}
    for entry in mnli["history"]:
        assert entry["splits"]["dev"] == entry["metrics"]
    logged = [entry for entry in read_metrics(tuned["mnli"] / "metrics.jsonl") if "dev_accuracy" in entry]
    assert [entry["dev_mismatched_accuracy"] for entry in logged] == [
        entry["splits"]["dev_mismatched"]["accuracy"] for entry in mnli["history"]
    ]
    again = json.loads(bigs("eval", "--model", tuned["mnli"], "--data", glue, "--json").fine().out)
    assert again["metrics"] == pytest.approx(mnli["metrics"])
    assert again["splits"]["dev_mismatched"] == pytest.approx(mnli["splits"]["dev_mismatched"])
    one = bigs("eval", "--model", tuned["mnli"], "--data", glue, "--split", "dev_mismatched", "--json").fine()
    assert json.loads(one.out)["split"] == "dev_mismatched"
    assert json.loads(one.out)["metrics"] == pytest.approx(mnli["splits"]["dev_mismatched"])


@pytest.mark.parametrize("form", ["flax", "torch", "safetensors", "transformers"])
@pytest.mark.parametrize("task", ["base", "mrpc"])
def test_exports_give_the_same_logits(
    tuned: dict[str, Path], pretrained: Path, glue: Path, tmp_path: Path, form: str, task: str
) -> None:
    run, folder = {"base": pretrained, **tuned}[task], tmp_path / "out"
    done = bigs("export", "--model", run, "--format", form, "--output", folder).fine()
    assert done.out == f"{folder}\n"
    weights = {
        "flax": {"flax_model.msgpack"},
        "torch": {"model.safetensors", "pytorch_model.bin"},
        "safetensors": {"model.safetensors"},
        "transformers": {"model.safetensors", "configuration_bigs.py", "layers_bigs.py", "modeling_bigs.py"},
    }[form]
    always = {"config.json", "README.md", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
    assert {path.name for path in folder.iterdir()} == weights | always
    card, metrics = (folder / "README.md").read_text(), results(run)["metrics"]
    if task == "base":
        assert f"| validation loss | {metrics['heldout_loss']:.4g} |" in card
    else:
        assert f"| dev accuracy | {100 * metrics['accuracy']:.2f}% |" in card
    ids = np.random.default_rng(0).integers(1, 300, (3, LENGTH))
    ids[:, 20:] = 0
    ours, theirs = (np.asarray(load_model(place)(ids).logits) for place in (run, folder))
    assert np.abs(ours - theirs).max() <= 5e-5 * np.abs(ours).max()
    if task == "mrpc":
        again = measured("mrpc", "--model", folder, "--data", glue, "--length", 24)
        assert again == pytest.approx(results(run)["metrics"], abs=1e-4)


def test_eval_and_export_default_to_the_newest_finished_run(
    tuned: dict[str, Path], pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    for age, (name, run) in enumerate({"base": pretrained, "mrpc": tuned["mrpc"], "cola": tuned["cola"]}.items()):
        shutil.copytree(run, root / name)
        os.utime(root / name / "recipe.yaml", (1000 + age, 1000 + age))
    (root / "cola" / "results.json").unlink()  # The newest run, but not finished.
    monkeypatch.setenv("BIGS_RUNS", str(root))
    monkeypatch.chdir(tmp_path)
    alone = bigs("eval", "--json").fine()
    assert json.loads(alone.out)["metrics"] == results(tuned["mrpc"])["metrics"]
    assert "mrpc (the newest finished run)" in alone.err
    assert bigs("export").fine().out == "exports/mrpc-flax\n"
    listed = bigs("runs", "list").fine().out.splitlines()
    assert [Path(line.split()[0]).name for line in listed[-3:]] == ["cola", "mrpc", "base"]
    assert "not finished" in listed[-3]


def test_the_recipe_of_a_run_reproduces_it(tuned: dict[str, Path], pretrained: Path) -> None:
    base = load_recipe(str(pretrained / "recipe.yaml"))
    assert isinstance(base, PretrainRecipe)
    assert base.steps == 6
    tuning = load_recipe(str(tuned["mrpc"] / "recipe.yaml"))
    assert isinstance(tuning, FinetuneRecipe)
    assert (tuning.from_, tuning.task) == (str(pretrained), "mrpc")
    environment = json.loads((pretrained / "environment.json").read_text())
    assert environment["packages"]["jax"]


def test_a_run_can_extend_the_position_table_of_its_start_model(pretrained: Path, shards: Path, tmp_path: Path) -> None:
    changes = {"model__max_position_embeddings": LENGTH + 8, "steps": 1, "schedule__warmup_steps": 1}
    done = bigs(*pretrain(shards, tmp_path / "run", "--from", pretrained, **changes)).fine()
    assert f"extended from {LENGTH} to {LENGTH + 8} rows" in done.err
    # The learning rate of the first step is 0, so the parameters are those of the start model.
    before, after = parameters(pretrained / "checkpoints"), parameters(tmp_path / "run" / "checkpoints")
    position = next(path for path in before if "position_embeddings" in path)
    np.testing.assert_array_equal(after[position][:LENGTH], before[position])
    assert all(np.array_equal(before[path], after[path]) for path in before if path != position)


def test_a_short_name_means_the_newest_finished_run_of_the_task(
    tuned: dict[str, Path], glue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    shutil.copytree(tuned["mnli"], root / "mine")
    monkeypatch.setenv("BIGS_RUNS", str(root))
    done = bigs(*finetune("mrpc", "mnli", glue, root / "mrpc")).fine()
    assert f"{root / 'mine'} (the newest finished mnli run)" in done.err
    assert "classifier/kernel" in done.err  # MNLI has three classes and MRPC two, so the classifier is new
    recipe = load_recipe(str(root / "mrpc" / "recipe.yaml"))
    assert isinstance(recipe, FinetuneRecipe)
    assert recipe.from_ == str(root / "mine")  # remains the same when a newer run exists


def test_without_a_local_run_a_short_name_means_the_published_model(
    tuned: dict[str, Path], glue: Path, tmp_path: Path
) -> None:
    """Only the server is fake. A separate process, because the client reads its settings at import."""
    bigs("export", "--model", tuned["mnli"], "--output", tmp_path / "published").fine()
    arguments = finetune("mrpc", "mnli", glue, tmp_path / "mrpc")
    with serving(Hub({"JunxiongWang/BiGS_512_MNLI": tmp_path / "published"})) as hub:
        environment = {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "hf"),
            "BIGS_RUNS": str(tmp_path / "none"),
        }
        running = start_bigs(*arguments, **environment)
        out, err = running.communicate(timeout=HANG)
    assert running.returncode == 0, err
    assert out == f"{tmp_path / 'mrpc'}\n"
    assert "JunxiongWang/BiGS_512_MNLI (published; there is no finished mnli run" in err


def test_a_published_model_without_network_access_is_reported(glue: Path, tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "BIGS_RUNS": str(tmp_path / "none")}
    running = start_bigs(*finetune("mrpc", "mnli", glue, tmp_path / "mrpc"), **offline)
    out, err = running.communicate(timeout=HANG)
    assert (running.returncode, out) == (1, "")
    assert "JunxiongWang/BiGS_512_MNLI is not in the hub's cache" in err
    assert "Traceback" not in err
    assert not (tmp_path / "mrpc").exists()
