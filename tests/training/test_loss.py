"""The settings of the loss in fine-tuning: class weights and label smoothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from bigs_cli.data.encode import Encoded
from bigs_cli.models.losses import cross_entropy
from bigs_cli.recipe import FinetuneRecipe, load_recipe
from bigs_cli.reporting.metrics_log import read_metrics
from bigs_cli.tasks import get_task
from bigs_cli.tasks.types import type_of
from bigs_cli.training.finetune import class_weights
from tests.tiny import bigs, finetune


def inputs(labels: Any) -> Encoded:
    return Encoded(np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(len(labels)), 8, np.array(labels))


@given(st.lists(st.integers(0, 2), min_size=3).filter(lambda labels: len(set(labels)) == 3))
def test_balanced_class_weights_are_those_of_scikit_learn(labels: list[int]) -> None:
    recipe = load_recipe("mnli", ["loss.class_weights=balanced"])
    assert isinstance(recipe, FinetuneRecipe)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=np.array(labels))
    assert class_weights(recipe, type_of(get_task("mnli")), inputs(labels)) == pytest.approx(expected)


def test_tokens_without_a_label_and_absent_classes_have_no_weight() -> None:
    recipe = load_recipe("mnli", ["loss.class_weights=balanced"])
    assert isinstance(recipe, FinetuneRecipe)
    assert class_weights(recipe, type_of(get_task("mnli")), inputs([0, -1, 2, 2, -1, 2])) == pytest.approx(
        (4 / 3, 0, 4 / 9)
    )


@given(st.integers(0, 99), st.floats(0, 0.9))
def test_label_smoothing_spreads_a_part_of_the_target(seed: int, smoothing: float) -> None:
    draw = np.random.default_rng(seed)
    logits, labels = draw.normal(size=(5, 4)), draw.integers(0, 4, 5)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    found, right = cross_entropy(jnp.asarray(logits), jnp.asarray(labels), smoothing)
    np.testing.assert_allclose(found, -(target * logs).sum(1), rtol=2e-5)
    np.testing.assert_array_equal(right, logits.argmax(1) == labels)


def test_a_run_with_class_weights_and_smoothing(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    first = {}
    for name, sets in (("plain", ()), ("balanced", ("loss.class_weights=balanced", "loss.label_smoothing=0.1"))):
        options = [word for value in sets for word in ("--set", value)]
        run = tmp_path / name
        bigs(*finetune("cola", pretrained, glue, run, "--set", "epochs=1", *options)).fine()
        first[name] = next(row["loss"] for row in read_metrics(run / "metrics.jsonl") if "loss" in row)
    assert first["plain"] != first["balanced"]
    assert "class_weights: balanced" in (tmp_path / "balanced" / "recipe.yaml").read_text()


def test_tasks_without_classes_are_refused(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    for value in ("loss.class_weights=balanced", "loss.label_smoothing=0.1"):
        done = bigs(*finetune("stsb", pretrained, glue, tmp_path / "run", "--set", value))
        assert done.code == 2
        assert "are only for tasks with classes. Leave them out for STS-B." in done.err
    assert not (tmp_path / "run" / "recipe.yaml").exists()
