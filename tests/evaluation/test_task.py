"""A model on a labelled task: every example once, in order, whatever the batch size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bigs_cli.data.encode import Encoded
from bigs_cli.evaluation.task import LabelledSplit, TaskEvaluator
from bigs_cli.model.functional import initialize, make_apply
from bigs_cli.recipe.config import BiGSConfig
from bigs_cli.recipe.schema import Compute
from bigs_cli.tasks import get_task


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


def test_logits_are_in_order_whatever_the_batch_and_the_trim() -> None:
    """With masked padding a row's logits depend on nothing but the row, so that batches may be trimmed."""
    of = config(mask_padding=True)
    apply, params = make_apply(of, Compute()), initialize(of, 0)
    seen: list[int] = []
    whole = TaskEvaluator(apply, get_task("mnli"), 11, trim=False).logits(params, inputs(), seen.append)
    parts = TaskEvaluator(apply, get_task("mnli"), 4, trim=True).logits(params, inputs(), seen.append)
    assert seen == [11, 4, 4, 3]
    assert np.ptp(whole, axis=0).min() > 1e-4
    np.testing.assert_allclose(parts, whole, atol=1e-5 * np.abs(whole).max())


def test_metrics_of_further_splits_have_their_suffix() -> None:
    of = config()
    evaluator = TaskEvaluator(make_apply(of, Compute()), get_task("mnli"), 4, trim=False)
    params = initialize(of, 0)
    predicted = evaluator.predictions(evaluator.logits(params, inputs()))
    splits = [
        LabelledSplit("dev", inputs(), predicted),
        LabelledSplit("dev_mismatched", inputs(), (predicted + 1) % 3),
    ]
    assert evaluator.metrics(params, splits) == {"accuracy": 1.0, "accuracy_mismatched": 0.0}
    with pytest.raises(ValueError, match="the split test has no labels"):
        evaluator.metrics(params, [LabelledSplit("test", inputs(), None)])


def test_a_regression_predicts_the_score_itself() -> None:
    of = config(num_labels=1, labels=None)
    evaluator = TaskEvaluator(make_apply(of, Compute()), get_task("stsb"), 4, trim=False)
    params = initialize(of, 0)
    logits = evaluator.logits(params, inputs())
    scores = evaluator.predictions(logits)
    np.testing.assert_array_equal(scores, logits[:, 0])
    metrics = evaluator.metrics(params, [LabelledSplit("dev", inputs(), 2 * scores + 1)])
    assert metrics == pytest.approx({"spearman": 1.0, "pearson": 1.0})
