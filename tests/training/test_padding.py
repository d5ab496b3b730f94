"""Trimming masked padding does not change predictions; trimming unmasked padding prints a warning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.tiny import bigs, finetune


def predictions(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_trimming_masked_padding_does_not_change_predictions(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    """The model of the recipe `demo` masks its padding."""
    lines = {}
    for name in ("true", "false"):
        bigs(*finetune("mrpc", pretrained, glue, tmp_path / name, "--set", f"trim_padding={name}")).fine()
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
