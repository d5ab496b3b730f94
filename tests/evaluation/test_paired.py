"""Paired tests against every case counted out, and what is compared of two runs' predictions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.metrics import matthews, spearman
from bigs_cli.evaluation.paired import mcnemar, pair, paired_bootstrap
from bigs_cli.evaluation.predictions import Answers
from bigs_cli.tasks import get_task
from bigs_cli.tasks.task import Task

NAMES = ("one", "two")


def share(labels: np.ndarray[Any, Any], predictions: np.ndarray[Any, Any]) -> float:
    return float((labels == predictions).mean())


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_mcnemar_counts_the_ways_in_which_coins_fall_as_unevenly(rights: list[tuple[bool, bool]]) -> None:
    first, second = np.array(rights, bool).reshape(-1, 2).T
    only = [sum(a > b for a, b in rights), sum(b > a for a, b in rights)]
    n = sum(only)
    as_uneven = sum(math.comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= abs(only[0] - only[1]))
    assert mcnemar(first, second) == pytest.approx(as_uneven / 2**n)


def test_the_bootstrap_draws_from_all_resamples_alike() -> None:
    labels = np.array([0, 1, 1, 0, 1])
    first, second = Answers(labels, np.array([0, 0, 1, 1, 0])), Answers(labels, np.array([0, 1, 1, 1, 1]))
    every = np.array(list(itertools.product(range(5), repeat=5)))
    differences = np.array(
        [share(labels[i], second.predictions[i]) - share(labels[i], first.predictions[i]) for i in every]
    )
    (low, high), p = paired_bootstrap(share, first, second, resamples=20_000)
    assert (low, high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))
    exact = 2 * min((differences <= 0).mean(), (differences >= 0).mean())
    assert p == pytest.approx(exact, rel=0.1)
    assert paired_bootstrap(share, second, first, resamples=20_000)[0] == pytest.approx((-high, -low))


def test_the_bootstrap_tells_a_difference_from_none() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=200)
    near, far = Answers(labels, labels + 0.1 * rng.normal(size=200)), Answers(labels, rng.normal(size=200))
    (low, high), p = paired_bootstrap(spearman, far, near, resamples=200)
    assert 0.5 < low < high
    assert p == pytest.approx(2 / 201)
    assert paired_bootstrap(spearman, near, near, resamples=200) == ((0.0, 0.0), 1.0)


def test_p_has_its_level_where_both_are_equally_good() -> None:
    rng = np.random.default_rng(1)
    labels = np.zeros(60, int)
    low = 0
    for _ in range(200):
        first, second = (Answers(labels, (rng.random(60) < 0.3).astype(int)) for _ in NAMES)
        low += paired_bootstrap(share, first, second, resamples=100)[1] <= 0.05
    assert 2 <= low <= 22  # 10 are expected; 22 is four standard deviations above


def lines(task: Task, labels: list[Any], predictions: list[Any], **more: Any) -> list[dict[str, Any]]:
    both = zip(labels, predictions, strict=True)
    return [
        {"split": "dev", "id": i, "text": f"text {i}", "label": a, "prediction": b, **more}
        for i, (a, b) in enumerate(both)
    ]


def test_classes_are_counted_and_tested_by_right_and_wrong_and_by_the_task_s_own_metric() -> None:
    task = get_task("cola")
    assert task.labels is not None
    bad, good = task.labels
    labels = [bad, good, good, bad, good, good]
    one = lines(task, labels, [bad, good, bad, good, good, bad], scores={})
    two = lines(task, labels, [bad, good, good, good, bad, good])
    paired = pair(task, NAMES, (one, two))
    assert paired.counts == {"both right": 2, "only one right": 1, "only two right": 2, "both wrong": 1}
    first, second = paired.tests
    assert (first.metric, first.how, first.p) == ("accuracy", "McNemar, exact", pytest.approx(1.0))
    assert first.values == (pytest.approx(3 / 6), pytest.approx(4 / 6))
    assert first.difference == pytest.approx(1 / 6)
    assert first.interval[0] <= first.difference <= first.interval[1]
    ids = [
        np.array([task.labels.index(line[key]) for line in side])
        for side in (one, two)
        for key in ("label", "prediction")
    ]
    assert (second.metric, second.how) == ("matthews", "paired bootstrap")
    assert second.values == (matthews(ids[0], ids[1]), matthews(ids[2], ids[3]))
    assert [(a["id"], b["id"]) for a, b in paired.differing] == [(2, 2), (4, 4), (5, 5)]


def test_of_scores_the_nearer_are_counted_and_the_furthest_apart_come_first() -> None:
    task = get_task("stsb")
    one = lines(task, [1.0, 2.0, 3.0, 4.0], [1.0, 2.5, 3.0, 0.0])
    two = lines(task, [1.0, 2.0, 3.0, 4.0], [1.5, 2.0, 3.0, 4.0])
    paired = pair(task, NAMES, (one, two))
    assert paired.counts == {"one nearer": 1, "two nearer": 2, "as near": 1}
    assert [test.metric for test in paired.tests] == ["spearman"]
    assert [a["id"] for a, _ in paired.differing] == [3, 0, 1]


def test_choices_are_right_or_wrong() -> None:
    task = Task(name="c", form="choices", title="C", source="", labels=None, metrics=("accuracy",))
    paired = pair(task, NAMES, (lines(task, [0, 1, 2], [0, 1, 1]), lines(task, [0, 1, 2], [1, 1, 2])))
    assert list(paired.counts.values()) == [1, 1, 1, 0]
    assert [test.how for test in paired.tests] == ["McNemar, exact"]


def test_other_splits_are_left_out() -> None:
    task = get_task("cola")
    one = lines(task, ["acceptable"], ["acceptable"])
    further = [{**one[0], "split": "dev_mismatched"}]
    assert sum(pair(task, NAMES, (one + further, one)).counts.values()) == 1


@pytest.mark.parametrize("change", [{"text": "another"}, {"id": 9}, {"label": "acceptable"}, {"pair": "b"}, None])
def test_other_examples_are_refused(change: dict[str, Any] | None) -> None:
    task = get_task("cola")
    one = lines(task, ["unacceptable"] * 2, ["unacceptable"] * 2)
    two = one[:1] if change is None else [one[0], {**one[1], **change}]
    with pytest.raises(RequestError, match="one and two were not measured on the same dev examples"):
        pair(task, NAMES, (one, two))


def test_what_has_no_one_answer_is_refused() -> None:
    task = Task(name="q", form="questions", title="Q", source="", labels=None, metrics=("f1",))
    with pytest.raises(RequestError, match="Q has several, or parts of one"):
        pair(task, NAMES, ([], []))
    with pytest.raises(RequestError, match=r"same dev examples \(0 and 0\)"):
        pair(get_task("cola"), NAMES, ([], []))
