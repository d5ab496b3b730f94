"""Every architecture through the lifecycle, with Muon and a masking schedule: pretrain, resume, finetune, export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bigs_cli import load_model
from bigs_cli.models.functional import count, parameter_shapes
from bigs_cli.recipe import PretrainRecipe, load_recipe
from tests.tiny import bigs, finetune, pretrain
from tests.training.test_resume import same

CHANGES = {
    "model__num_attention_heads": 2,
    "model__final_norm": "true",
    "optimizer__name": "muon",
    "optimizer__clip_norm": 1.0,
    "optimizer__ema": 0.9,
    "masking__rate": 0.3,
    "masking__final_rate": 0.15,
    "masking__max_predictions": "null",
}


@pytest.mark.parametrize(
    ("block", "mixer"),
    [("gated", "ssm"), ("gated", "attention"), ("stacked", "ssm"), ("stacked", "attention")],
    ids=["gated-ssm", "gated-attention", "stacked-ssm", "stacked-attention"],
)
def test_the_lifecycle(block: str, mixer: str, shards: Path, glue: Path, tmp_path: Path) -> None:
    changes = {**CHANGES, "model__block": block, "model__mixer": mixer, "checkpoint__every_steps": 3}
    run, tuned = tmp_path / "run", tmp_path / "tuned"
    bigs(*pretrain(shards, run, **changes)).fine()
    model = load_model(run)
    assert (model.config.block, model.config.mixer) == (block, mixer)

    resumed = shutil.copytree(run, tmp_path / "resumed")
    (resumed / "results.json").unlink()
    shutil.rmtree(resumed / "checkpoints" / "6")
    assert "after step 3." in bigs(*pretrain(shards, resumed, "--resume")).fine().err
    assert same(resumed / "checkpoints", run / "checkpoints")

    bigs(*finetune("mrpc", run, glue, tuned, "--set", "pooler_type=pair")).fine()
    assert load_model(tuned).config.pooler_type == "pair"
    metrics = json.loads(bigs("eval", "mrpc", "--model", tuned, "--data", glue, "--json").fine().out)["metrics"]
    assert metrics == json.loads((tuned / "results.json").read_text())["metrics"]
    assert len(bigs("predict", "the river [MASK] south", "--model", run).fine().out.splitlines()) >= 1

    ids = np.random.default_rng(0).integers(1, 300, (3, 20))
    expected = np.asarray(load_model(tuned)(ids).logits)
    for form in ("flax", "torch", "safetensors", "transformers", "stablehlo"):
        bigs("export", "--model", tuned, "--format", form, "--output", tmp_path / form).fine()
        exported = load_model(tmp_path / form)
        assert exported.config == load_model(tuned).config
        np.testing.assert_allclose(exported(ids).logits, expected, atol=5e-5 * np.abs(expected).max())


def test_the_recipes_of_the_architectures_have_equally_many_parameters() -> None:
    def parameters(name: str) -> int:
        recipe = load_recipe(name)
        assert isinstance(recipe, PretrainRecipe)
        return count(parameter_shapes(recipe.model))

    for variant in ("gated-attention", "stacked-ssm", "stacked-attention"):
        assert parameters(f"small-{variant}") == pytest.approx(parameters("small"), rel=0.02)


def test_an_attention_model_has_no_kernels_to_plot(tmp_path: Path, shards: Path) -> None:
    run = tmp_path / "run"
    bigs(*pretrain(shards, run, model__mixer="attention", model__num_attention_heads=2, steps=2)).fine()
    done = bigs("runs", "plot", run, "--kernels", "--output", tmp_path / "kernels.png")
    assert done.code == 2
    assert "mixes with attention, so it has no convolution kernels" in done.err
