"""Paired tests against enumeration of all cases, and the comparison of two runs by task type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.paired import mcnemar, pair
from bigs_cli.tasks import get_task
from bigs_cli.tasks.metrics import matthews
from bigs_cli.tasks.task import Task

NAMES = ("one", "two")


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_mcnemar_matches_enumeration(rights: list[tuple[bool, bool]]) -> None:
    first, second = np.array(rights, bool).reshape(-1, 2).T
    only = [sum(a > b for a, b in rights), sum(b > a for a, b in rights)]
    n = sum(only)
    as_uneven = sum(math.comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= abs(only[0] - only[1]))
    assert mcnemar(first, second) == pytest.approx(as_uneven / 2**n)


def lines(task: Task, labels: list[Any], predictions: list[Any], **more: Any) -> list[dict[str, Any]]:
    both = zip(labels, predictions, strict=True)
    return [
        {"split": "dev", "id": i, "text": f"text {i}", "label": a, "prediction": b, **more}
        for i, (a, b) in enumerate(both)
    ]


def test_classification_runs_are_compared_by_accuracy_and_task_metric() -> None:
    task = get_task("cola")
    assert task.labels is not None
    bad, good = task.labels
    labels = [bad, good, good, bad, good, good]
    one = lines(task, labels, [bad, good, bad, good, good, bad], scores={})
    two = lines(task, labels, [bad, good, good, good, bad, good])
    paired = pair(task, NAMES, (one, two))
    assert paired.counts == {"both correct": 2, "only one correct": 1, "only two correct": 2, "both wrong": 1}
    first, second = paired.tests
    assert (first.metric, first.method, first.p) == ("accuracy", "McNemar, exact", pytest.approx(1.0))
    assert first.values == (pytest.approx(3 / 6), pytest.approx(4 / 6))
    assert first.difference == pytest.approx(1 / 6)
    assert first.interval[0] <= first.difference <= first.interval[1]
    ids = [
        np.array([task.labels.index(line[key]) for line in side])
        for side in (one, two)
        for key in ("label", "prediction")
    ]
    assert (second.metric, second.method) == ("matthews", "paired bootstrap")
    assert second.values == (matthews(ids[0], ids[1]), matthews(ids[2], ids[3]))
    assert [(a["id"], b["id"]) for a, b in paired.differing] == [(2, 2), (4, 4), (5, 5)]


def test_regression_runs_are_compared_by_distance_to_the_label() -> None:
    task = get_task("stsb")
    one = lines(task, [1.0, 2.0, 3.0, 4.0], [1.0, 2.5, 3.0, 0.0])
    two = lines(task, [1.0, 2.0, 3.0, 4.0], [1.5, 2.0, 3.0, 4.0])
    paired = pair(task, NAMES, (one, two))
    assert paired.counts == {"one closer": 1, "two closer": 2, "equally close": 1}
    assert [test.metric for test in paired.tests] == ["spearman"]
    assert [a["id"] for a, _ in paired.differing] == [3, 0, 1]


def test_multiple_choice_runs_are_compared() -> None:
    task = Task(name="c", type="multiple-choice", title="C", source="", labels=None, metrics=("accuracy",))
    paired = pair(task, NAMES, (lines(task, [0, 1, 2], [0, 1, 1]), lines(task, [0, 1, 2], [1, 1, 2])))
    assert list(paired.counts.values()) == [1, 1, 1, 0]
    assert [test.method for test in paired.tests] == ["McNemar, exact"]


def test_other_splits_are_ignored() -> None:
    task = get_task("cola")
    one = lines(task, ["acceptable"], ["acceptable"])
    further = [{**one[0], "split": "dev_mismatched"}]
    assert sum(pair(task, NAMES, (one + further, one)).counts.values()) == 1


@pytest.mark.parametrize("change", [{"text": "another"}, {"id": 9}, {"label": "acceptable"}, {"pair": "b"}, None])
def test_different_examples_are_rejected(change: dict[str, Any] | None) -> None:
    task = get_task("cola")
    one = lines(task, ["unacceptable"] * 2, ["unacceptable"] * 2)
    two = one[:1] if change is None else [one[0], {**one[1], **change}]
    with pytest.raises(RequestError, match="one and two were not evaluated on the same dev examples"):
        pair(task, NAMES, (one, two))


def test_token_classification_runs_are_compared_by_sentence_and_entity() -> None:
    task = get_task("wikiann")
    truth = [["B-PER", "I-PER", "O"], ["O", "B-LOC", "O"], ["O", "O", "O"]]
    words = [{"words": ["Ada", "Lovelace", "wrote"]}] * 3
    one = [a | b for a, b in zip(lines(task, truth, [truth[0], ["O"] * 3, truth[2]]), words, strict=True)]
    two = [a | b for a, b in zip(lines(task, truth, truth), words, strict=True)]
    paired = pair(task, NAMES, (one, two))
    assert paired.counts == {"both correct": 2, "only one correct": 0, "only two correct": 1, "both wrong": 0}
    assert [(test.metric, test.method) for test in paired.tests] == [
        ("whole sentences", "McNemar, exact"),
        ("f1", "paired bootstrap"),
    ]
    assert paired.tests[1].values == (pytest.approx(2 / 3), 1.0)
    assert [a["id"] for a, _ in paired.differing] == [1]


def test_question_answering_runs_are_compared_by_exact_match_and_f1() -> None:
    task = get_task("squad")
    right = [["the big river"], ["a bank", "banks"]]
    one = lines(task, right, ["river", "bank"], nbest=[{"text": "river"}])
    two = lines(task, right, ["Big River!", "bank"], nbest=[])
    paired = pair(task, NAMES, (one, two))
    assert paired.counts == {"both correct": 1, "only one correct": 0, "only two correct": 1, "both wrong": 0}
    assert [(test.metric, test.method) for test in paired.tests] == [
        ("exact", "McNemar, exact"),
        ("f1", "paired bootstrap"),
    ]
    assert paired.tests[1].values == (pytest.approx((2 / 3 + 1) / 2), 1.0)


def test_runs_without_predictions_are_rejected() -> None:
    with pytest.raises(RequestError, match=r"same dev examples \(0 and 0\)"):
        pair(get_task("cola"), NAMES, ([], []))
