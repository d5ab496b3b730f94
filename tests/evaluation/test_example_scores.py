"""The scores of single examples add up to the metrics that the task types compute for all examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.predictions import example_scores
from bigs_cli.tasks import get_task
from bigs_cli.tasks.metrics import METRICS
from bigs_cli.tasks.types.question_answering import squad_scores
from bigs_cli.tasks.types.token_classification import entity_scores

RANDOM = np.random.default_rng(3)
PLACES = RANDOM.integers(0, 40, 60)  # some twice, some never


def lines(labels: list[Any], predictions: list[Any]) -> list[dict[str, Any]]:
    return [{"split": "dev", "label": a, "prediction": b} for a, b in zip(labels, predictions, strict=True)]


def test_scores_of_classes() -> None:
    task = get_task("mrpc")
    assert task.labels is not None
    ids = RANDOM.integers(0, 2, (2, 40))
    scores = example_scores(task, lines(*([task.labels[i] for i in side] for side in ids)))
    assert scores.count == 40
    assert scores.right is not None
    assert scores.right.tolist() == (ids[0] == ids[1]).tolist()
    for name in ("accuracy", "f1"):
        assert scores.metrics[name](PLACES) == pytest.approx(METRICS[name](*ids[:, PLACES]), abs=1e-12)


def test_regression_scores_are_not_right_or_wrong() -> None:
    values = RANDOM.normal(size=(2, 40)).astype(np.float32)
    scores = example_scores(get_task("stsb"), lines(*values.tolist()))
    assert scores.right is None
    assert scores.metrics["spearman"](PLACES) == pytest.approx(METRICS["spearman"](*values[:, PLACES]), abs=1e-12)


def test_scores_of_tags() -> None:
    task = get_task("wikiann")
    assert task.labels is not None
    lengths = RANDOM.integers(1, 6, 40)
    truth, mine = ([[task.labels[i] for i in RANDOM.integers(0, 3, n)] for n in lengths] for _ in range(2))
    scores = example_scores(task, lines(truth, mine))
    whole = entity_scores([truth[i] for i in PLACES], [mine[i] for i in PLACES])
    assert {name: scores.metrics[name](PLACES) for name in whole} == pytest.approx(whole, abs=1e-12)
    hits = [a == b for i in PLACES for a, b in zip(truth[i], mine[i], strict=True)]
    assert scores.metrics["accuracy"](PLACES) == pytest.approx(sum(hits) / len(hits), abs=1e-12)
    assert scores.right is not None
    assert scores.right.tolist() == [a == b for a, b in zip(truth, mine, strict=True)]


@pytest.mark.parametrize("name", ["squad", "squad2"])
def test_scores_of_questions(name: str) -> None:
    task = get_task(name)
    texts = ["the river", "a river bank", "bank", ""]
    right = [[texts[i] for i in RANDOM.integers(0, 4, 1 + n % 3)] for n in range(40)]
    mine = [texts[i] for i in RANDOM.integers(0, 4, 40)]
    scores = example_scores(task, lines(right, mine))
    whole = squad_scores([mine[i] for i in PLACES], [right[i] for i in PLACES], task.no_answer)
    assert {metric: scores.metrics[metric](PLACES) for metric in whole} == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "label", "prediction"),
    [
        ("mnli", "bad", "bad"),
        ("wikiann", ["O"], ["O", "O"]),
        ("wikiann", "O", 3),
        ("squad", None, "x"),
        ("stsb", "x", 1),
    ],
)
def test_predictions_of_another_task_are_rejected(name: str, label: Any, prediction: Any) -> None:
    with pytest.raises(RequestError, match="not those of"):
        example_scores(get_task(name), lines([label], [prediction]))
