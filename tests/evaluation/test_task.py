"""Evaluation on a labelled task: each example once and in order, for any batch size."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bigs_cli.data.encode import Encoded
from bigs_cli.evaluation.task import Split, TaskEvaluator
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import initialize, make_apply
from bigs_cli.recipe.groups import Compute
from bigs_cli.tasks import get_task
from bigs_cli.tasks.types import type_of
from bigs_cli.tasks.types.sequence_classification import TextExamples


def config(**changes: Any) -> BiGSConfig:
    sizes: dict[str, Any] = {
        "vocab_size": 23,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "intermediate_size": 8,
        "num_ssm": 3,
        "max_position_embeddings": 64,
        "head": "sequence-classification",
        "num_labels": 3,
    }
    return BiGSConfig(**(sizes | changes))


def inputs(count: int = 11) -> Encoded:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 50, count)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return Encoded(random.integers(1, 23, starts[-1]).astype(np.int32), starts, lengths // 2, 64)


def split(name: str, labels: Any) -> Split:
    texts = TextExamples([f"text {i}" for i in range(11)], None, labels, np.arange(11))
    return Split(name, texts, inputs())


def test_scores_do_not_depend_on_batch_size_and_trimming() -> None:
    """With masked padding, the logits of a row depend only on that row, so batches can be trimmed."""
    of = config(mask_padding=True)
    apply, params = make_apply(of, Compute()), initialize(of, 0)
    seen: list[int] = []
    task_type = type_of(get_task("mnli"))
    whole = TaskEvaluator(apply, task_type, 11, trim=False).engine(params, inputs(), seen.append)
    parts = TaskEvaluator(apply, task_type, 4, trim=True).engine(params, inputs(), seen.append)
    assert seen == [11, 4, 4, 3]
    assert np.ptp(whole, axis=0).min() > 1e-4
    np.testing.assert_allclose(parts, whole, atol=1e-5 * np.abs(whole).max())
    turned = TaskEvaluator(apply, task_type, 11, trim=False, order=[2, 0, 1]).engine(params, inputs())
    np.testing.assert_array_equal(turned, whole[:, [2, 0, 1]])


def test_every_split_has_the_same_metrics() -> None:
    of = config()
    task_type = type_of(get_task("mnli"))
    evaluator = TaskEvaluator(make_apply(of, Compute()), task_type, 4, trim=False)
    params = initialize(of, 0)
    predicted = task_type.values(evaluator.engine(params, inputs()))
    splits = [split("dev", predicted), split("dev_mismatched", (predicted + 1) % 3)]
    metrics, scores = evaluator.measure(params, splits)
    assert metrics == {"dev": {"accuracy": 1.0}, "dev_mismatched": {"accuracy": 0.0}}
    lines = list(evaluator.predictions(splits, scores))
    assert [line["split"] for line in lines] == ["dev"] * 11 + ["dev_mismatched"] * 11
    for i, line in enumerate(lines[:11]):
        names = get_task("mnli").labels
        assert line["text"] == f"text {i}"
        assert line["label"] == line["prediction"] == names[predicted[i]] == max(line["scores"], key=line["scores"].get)
        assert sum(line["scores"].values()) == pytest.approx(1, abs=1e-5)


def test_regression_predictions_are_scores() -> None:
    of = config(num_labels=1, labels=None)
    task_type = type_of(get_task("stsb"))
    evaluator = TaskEvaluator(make_apply(of, Compute()), task_type, 4, trim=False)
    params = initialize(of, 0)
    scores = evaluator.engine(params, inputs())
    of_dev = split("dev", 2 * scores[:, 0] + 1)
    metrics, again = evaluator.measure(params, [of_dev])
    assert metrics["dev"] == pytest.approx({"spearman": 1.0, "pearson": 1.0})
    written = [line["prediction"] for line in evaluator.predictions([of_dev], again)]
    assert np.array_equal(np.array(written, np.float32), scores[:, 0])


def test_scores_are_written_as_short_decimals() -> None:
    """Scores have the decimals of float32: 2.4, not 2.4000000953674316."""
    task_type = type_of(get_task("stsb"))
    examples = TextExamples(["a"] * 3, ["b"] * 3, np.array([2.4, 0.2, 5], np.float32), np.arange(3))
    scores = np.array([[0.1], [-1e-7], [1 / 3]], np.float32)
    made = list(task_type.predictions(examples, inputs(3), scores))
    assert json.dumps([(line["label"], line["prediction"]) for line in made]) == (
        "[[2.4, 0.1], [0.2, -1e-07], [5.0, 0.33333334]]"
    )
