"""Metrics against their definitions, also where these divide by zero."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.tasks.metrics import METRICS, compute

binary = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30)


@settings(max_examples=60)
@given(binary)
def test_class_metrics_follow_the_confusion_matrix(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = np.array(pairs).T
    tp, tn = sum(a == b == 1 for a, b in pairs), sum(a == b == 0 for a, b in pairs)
    fp, fn = sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)
    root = np.sqrt(float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))
    got = compute(("accuracy", "f1", "matthews"), labels, predictions)
    assert got["accuracy"] == pytest.approx((tp + tn) / len(pairs), abs=1e-12)
    assert got["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp else 0.0, abs=1e-12)
    assert got["matthews"] == pytest.approx((tp * tn - fp * fn) / root if root else 0.0, abs=1e-12)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_class_metrics_match_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = np.array(pairs).T
    got = compute(("accuracy", "macro_f1", "matthews"), labels, predictions)
    assert got["accuracy"] == pytest.approx(accuracy_score(labels, predictions), abs=1e-12)
    assert got["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro", zero_division=0), abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert got["matthews"] == pytest.approx(matthews_corrcoef(labels, predictions), abs=1e-12)


def test_correlations_follow_their_definitions() -> None:
    rng = np.random.default_rng(0)
    labels = rng.permutation(50).astype(np.float32)
    predictions = labels + rng.normal(0, 10, 50).astype(np.float32)
    got = compute(("pearson", "spearman"), labels, predictions)
    ranks = predictions.argsort().argsort()
    assert got["pearson"] == pytest.approx(
        np.corrcoef(labels.astype(float), predictions.astype(float))[0, 1], abs=1e-12
    )
    assert got["spearman"] == pytest.approx(np.corrcoef(labels, ranks)[0, 1], abs=1e-12)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-9, 9, width=32)), min_size=2, max_size=30))
def test_correlations_match_scipy(pairs: list[tuple[int, float]]) -> None:
    labels, predictions = (np.array(side, np.float32) for side in zip(*pairs, strict=True))
    assume(np.ptp(labels) and np.ptp(predictions) > 1e-3)
    got = compute(("pearson", "spearman"), labels, predictions)
    assert got["pearson"] == pytest.approx(pearsonr(labels.astype(float), predictions.astype(float))[0], abs=1e-9)
    assert got["spearman"] == pytest.approx(spearmanr(labels, predictions)[0], abs=1e-9)


@pytest.mark.parametrize("labels", [[0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
@pytest.mark.parametrize("prediction", [0, 1])
def test_constant_predictions_give_numbers_without_warnings(labels: list[int], prediction: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = compute(tuple(METRICS), np.array(labels), np.full(4, prediction))
    assert all(np.isfinite(list(values.values())))
    assert values["matthews"] == values["pearson"] == values["spearman"] == 0.0
    assert values["accuracy"] == np.mean(np.array(labels) == prediction)


def test_one_example_and_three_classes() -> None:
    assert compute(("accuracy", "matthews", "pearson"), np.array([2]), np.array([2])) == {
        "accuracy": 1.0,
        "matthews": 0.0,
        "pearson": 0.0,
    }
    assert compute(("matthews",), np.array([0, 1, 2]), np.array([0, 1, 2])) == {"matthews": 1.0}


def test_invalid_inputs_are_reported() -> None:
    one = np.array([1])
    with pytest.raises(RequestError, match=r"no metric 'acuracy'.*mean 'accuracy'"):
        compute(("acuracy",), one, one)
    with pytest.raises(BigsError, match="no labelled examples, so"):
        compute(("accuracy",), np.array([]), np.array([]))
    with pytest.raises(BigsError, match="differ in shape"):
        compute(("accuracy",), one, np.array([1, 2]))
    with pytest.raises(BigsError, match="diverged"):
        compute(("pearson",), one, np.array([np.nan]))
