"""Task metrics by name, as scikit-learn and SciPy define them; values are fractions, not percent.

Where a definition divides by zero (a constant prediction has no correlation, a class never predicted has no precision)
the value is 0.0, as in the GLUE baselines, rather than NaN with a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bigs_cli.core.errors import BigsError, RequestError, did_you_mean

Array = np.ndarray[Any, Any]


def accuracy(labels: Array, predictions: Array) -> float:
    """Return the fraction of `predictions` `[n]` that equal `labels` `[n]`, both class ids."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def f1(labels: Array, predictions: Array) -> float:
    """Return the F1 score of class 1 in class ids `[n]`; 0.0 if class 1 is neither labelled nor predicted."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, pos_label=1, average="binary", zero_division=0.0))  # pyright: ignore[reportArgumentType]


def macro_f1(labels: Array, predictions: Array) -> float:
    """Return the mean F1 score of all classes that occur in labels or predictions, class ids `[n]`."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="macro", zero_division=0.0))  # pyright: ignore[reportArgumentType]


def matthews(labels: Array, predictions: Array) -> float:
    """Return the Matthews correlation of class ids `[n]`, in [-1, 1]; 0.0 if labels or predictions are constant."""
    from sklearn.metrics import matthews_corrcoef

    return 0.0 if _constant(labels, predictions) else float(matthews_corrcoef(labels, predictions))


def pearson(labels: Array, predictions: Array) -> float:
    """Return the linear correlation of scores `[n]`, in [-1, 1]; 0.0 if labels or predictions are constant."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, labels, predictions)


def spearman(labels: Array, predictions: Array) -> float:
    """Return the rank correlation of scores `[n]`, in [-1, 1]; 0.0 if labels or predictions are constant."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, labels, predictions)


METRICS: Mapping[str, Callable[[Array, Array], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


def compute(names: Sequence[str], labels: Array, predictions: Array) -> dict[str, float]:
    """Return ``{name: value}`` for every metric in `names`, in their order.

    `labels` and `predictions` are `[n]`: class ids, or scores for the correlations.

    Raises:
        RequestError: a metric has an unknown name.
        BigsError: there are no examples, the shapes differ, or a prediction is not finite.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    for name in names:
        if name not in METRICS:
            raise RequestError(
                f"There is no metric '{name}'.{did_you_mean(name, METRICS)} Known: {', '.join(METRICS)}."
            )
    if not labels.size:
        raise BigsError("There are no labelled examples, so there are no metrics.")
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise BigsError(f"Labels {labels.shape} and predictions {predictions.shape} differ in shape.")
    if not np.isfinite(predictions).all():
        raise BigsError(
            "Some predictions are not finite: the model has diverged. Train it again with a lower learning rate."
        )
    return {name: METRICS[name](labels, predictions) for name in names}


def _correlation(function: Callable[..., Any], labels: Array, predictions: Array) -> float:
    if _constant(labels, predictions):
        return 0.0
    labels, predictions = labels.astype(np.float64), predictions.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy warns about nearly constant input; a finite value is kept
        value = float(function(labels, predictions).statistic)
    return value if np.isfinite(value) else 0.0


def _constant(*sides: Array) -> bool:
    return any(bool((side == side[0]).all()) for side in sides)
