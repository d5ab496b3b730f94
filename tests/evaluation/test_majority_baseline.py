"""The majority baseline, and models with constant predictions."""

from __future__ import annotations

from typing import Any

import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.predictions import scores_of
from bigs_cli.tasks import get_task
from bigs_cli.tasks.task import Task

PAIR = ("equivalent", "not_equivalent")


def lines(labels: list[Any], predictions: list[Any], split: str = "dev") -> list[dict[str, Any]]:
    return [{"split": split, "label": a, "prediction": b} for a, b in zip(labels, predictions, strict=True)]


def notes(task: Task, labels: list[Any], predictions: list[Any]) -> tuple[str, ...]:
    return scores_of(task, {"dev": {}}, lines(labels, predictions)).notes


def test_the_baseline_predicts_the_most_frequent_label() -> None:
    labels = [PAIR[0]] * 3 + [PAIR[1]]
    scores = scores_of(get_task("mrpc"), {"dev": {"accuracy": 0.5}}, lines(labels, [*PAIR, *PAIR]))
    assert scores.baselines["dev"].answer == "equivalent"
    assert scores.baselines["dev"].metrics == pytest.approx({"accuracy": 0.75, "f1": 6 / 7})
    assert scores.sentences() == [
        "The majority baseline for dev always predicts “equivalent”, the most frequent label."
    ]
    cola = lines(["acceptable", "acceptable", "unacceptable"], ["acceptable", "unacceptable", "acceptable"])
    assert scores_of(get_task("cola"), {"dev": {}}, cola).baselines["dev"].metrics["matthews"] == 0.0


def test_every_split_has_its_own_baseline() -> None:
    both = lines(["neutral"] * 3, ["neutral", "entailment", "neutral"]) + lines(
        ["entailment", "entailment", "neutral"], ["neutral", "entailment", "neutral"], "dev_mismatched"
    )
    found = scores_of(get_task("mnli"), {"dev": {}, "dev_mismatched": {}}, both).baselines
    assert {split: each.answer for split, each in found.items()} == {"dev": "neutral", "dev_mismatched": "entailment"}
    assert [each.metrics["accuracy"] for each in found.values()] == pytest.approx([1, 2 / 3])


def test_baselines_of_tags_and_endings() -> None:
    tagged = lines([["O", "B-LOC", "O"], ["O"]], [["O", "O", "B-LOC"], ["O"]])
    baseline = scores_of(get_task("wikiann"), {"dev": {}}, tagged).baselines["dev"]
    assert (baseline.answer, baseline.metrics["accuracy"], baseline.metrics["f1"]) == ("O", 0.75, 0.0)
    baseline = scores_of(get_task("codah"), {"dev": {}}, lines([2, 2, 0], [0, 1, 2])).baselines["dev"]
    assert (baseline.answer, baseline.metrics["accuracy"]) == ("ending 3", pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("task", "labels", "predictions", "answer"),
    [
        ("mrpc", [*PAIR], [PAIR[1]] * 2, "“not_equivalent” for all 2 dev examples"),
        ("wikiann", [["O", "B-LOC"], ["O"]], [["O", "O"], ["O"]], "“O” for all 2 dev examples"),
        ("codah", [0, 1], [3, 3], "“ending 4” for all 2 dev examples"),
        ("stsb", [0.0, 5.0], [2.51, 2.49], "about 2.5 for all 2 dev examples"),
    ],
)
def test_constant_predictions_are_reported(task: str, labels: list[Any], predictions: list[Any], answer: str) -> None:
    expected = f"The model predicts {answer}: it does not distinguish them."
    assert notes(get_task(task), labels, predictions) == (expected,)


@pytest.mark.parametrize(
    ("task", "labels", "predictions"),
    [
        ("mrpc", [*PAIR], [*PAIR]),
        ("mrpc", [PAIR[0]], [PAIR[0]]),
        ("wikiann", [["O", "O"]] * 2, [["O", "O"], ["O", "B-LOC"]]),
        ("stsb", [0.0, 5.0], [2.4, 2.6]),
        ("squad2", [["a"], []], ["", ""]),
    ],
)
def test_other_predictions_are_not_reported_as_constant(task: str, labels: list[Any], predictions: list[Any]) -> None:
    assert notes(get_task(task), labels, predictions) == ()


def test_regression_and_question_answering_have_no_baseline() -> None:
    assert scores_of(get_task("stsb"), {"dev": {}}, lines([1.0, 2.0], [1.0, 2.0])).baselines == {}
    assert scores_of(get_task("squad"), {"dev": {}}, lines([["a"]], ["a"])).baselines == {}


def test_predictions_of_another_task_are_rejected() -> None:
    with pytest.raises(RequestError, match="are not those of MRPC"):
        scores_of(get_task("mrpc"), {"dev": {}}, lines(["positive"], ["negative"]))
