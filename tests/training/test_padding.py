"""Trimmed padding: batches of similar length; masked padding changes no prediction; unmasked padding warns."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigs_cli import BiGSForSequenceClassification, load_model
from bigs_cli.checkpoints.config_json import read_config
from bigs_cli.checkpoints.resolve import find_model, open_model
from bigs_cli.prediction.settings import settings_for
from bigs_cli.training.finetune import WINDOW, shuffled_batches
from tests.tiny import bigs, finetune, pretrain


def predictions(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_trimming_masked_padding_does_not_change_predictions(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    """The model of the recipe `demo` masks its padding. All examples are in one batch, trimmed or not."""
    lines = {}
    for name in ("true", "false"):
        sets = ("--set", f"trim_padding={name}", "--set", "batch_size=64")
        bigs(*finetune("mrpc", pretrained, glue, tmp_path / name, *sets)).fine()
        lines[name] = predictions(tmp_path / name / "predictions.jsonl")
    assert [line["prediction"] for line in lines["true"]] == [line["prediction"] for line in lines["false"]]
    scores = [[list(line["scores"].values()) for line in lines[name]] for name in lines]  # pyright: ignore
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)
    again = tmp_path / "again.jsonl"
    done = bigs("eval", "--model", tmp_path / "true", "--full-padding", "--predictions", again).fine()
    assert "changes" not in done.err
    assert [line["prediction"] for line in predictions(again)] == [line["prediction"] for line in lines["true"]]


def test_trimming_unmasked_padding_prints_a_warning(shards: Path, pretrained: Path, glue: Path, tmp_path: Path) -> None:
    config = json.loads((pretrained / "config.json").read_text())
    reader = tmp_path / "reader"
    bigs("export", "--model", pretrained, "--format", "flax", "--output", reader).fine()
    changed = json.loads((reader / "config.json").read_text()) | {"mask_padding": False}
    assert config.get("mask_padding")
    (reader / "config.json").write_text(json.dumps(changed))
    run = tmp_path / "run"
    done = bigs(*finetune("mrpc", reader, glue, run)).fine()
    assert "depend on padding" not in done.err
    full, cut = tmp_path / "full.jsonl", tmp_path / "cut.jsonl"
    bigs("eval", "--model", run, "--length", 32, "--predictions", full).fine()
    done = bigs("eval", "--model", run, "--length", 32, "--trim-padding", "--predictions", cut).fine()
    assert "the outputs of this model: they depend on padding" in done.err
    assert len(predictions(full)) == len(predictions(cut)) == 13


@pytest.mark.parametrize("mixer", ["ssm", "attention"])
def test_a_mean_over_padding_is_not_trimmed(mixer: Any, pretrained: Path, tmp_path: Path) -> None:
    """Although the mixer masks its padding, the pooler averages over it."""
    config = read_config(pretrained / "config.json").model_copy(
        update={"head": "sequence-classification", "pooler_type": "mean", "mask_padding": True, "mixer": mixer}
    )
    assert config.mixer_masks_padding
    assert not config.ignores_padding
    changed = config.model_copy(update={"initializer_range": 0.3})
    BiGSForSequenceClassification(changed, seed=3).save_pretrained(tmp_path)
    shutil.copy(pretrained / "tokenizer.json", tmp_path)
    model, short = load_model(tmp_path), "The river."
    (alone,), (beside, _) = model.predict([short]), model.predict([short, "The river rises in the hills. " * 3])
    assert alone["scores"] == pytest.approx(beside["scores"], abs=1e-6)


def test_the_row_length_of_pretraining_is_that_of_predictions(shards: Path, tmp_path: Path) -> None:
    """The model has 32 positions but was trained on rows of 16 tokens."""
    cut = ("--length", 16, "--train-vocab", 400, "--heldout", 0.1, "--output", tmp_path / "shards")
    bigs("tokenize", "--input", shards.parent / "text.jsonl", *cut).fine()
    run = tmp_path / "run"
    bigs(*pretrain(tmp_path / "shards", run, data__sequence_length=16, model__mask_padding="false")).fine()
    assert settings_for(open_model(find_model(str(run)))).length == 16
    bigs("export", "--model", run, "--format", "flax", "--output", tmp_path / "model").fine()
    assert "Pad texts as in training, to 16 tokens." in (tmp_path / "model" / "README.md").read_text()


@given(st.lists(st.integers(1, 128), min_size=1, max_size=1000), st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_an_epoch_has_every_example_once(lengths: list[int], size: int, by_length: bool, seed: int) -> None:
    batches = shuffled_batches(np.random.default_rng(seed), np.array(lengths), size, by_length)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert sorted(map(len, batches), reverse=True)[:-1] == [size] * (len(batches) - 1)
    order = np.random.default_rng(seed).permutation(len(lengths))
    if not by_length:
        assert np.concatenate(batches).tolist() == order.tolist()
    elif len(lengths) <= WINDOW * size:
        spans = sorted((min(lengths[row] for row in rows), max(lengths[row] for row in rows)) for rows in batches)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
