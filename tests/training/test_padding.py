"""Trimmed padding: batches of similar length; masked padding changes no prediction; unmasked padding warns."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bigs_cli.training.finetune import WINDOW, shuffled_batches
from tests.tiny import bigs, finetune


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
