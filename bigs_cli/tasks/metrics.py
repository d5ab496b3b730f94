"""Task metrics by name, as scikit-learn and SciPy define them; values are fractions, not percent.

They are computed here: a bootstrap interval evaluates a metric a thousand times, and scikit-learn and SciPy, which
check their arguments and compute p-values in every call, need several seconds for that. The tests compare them with
both.

Where a definition divides by zero (a constant prediction has no correlation, a class never predicted has no precision)
the value is 0.0, as in the GLUE baselines, rather than NaN with a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bigs_cli.core.errors import BigsError, RequestError, did_you_mean

Array = np.ndarray[Any, Any]


def accuracy(labels: Array, predictions: Array) -> float:
    """Return the fraction of `predictions` `[n]` that equal `labels` `[n]`, both class ids."""
    return float((labels == predictions).mean())


def f1(labels: Array, predictions: Array) -> float:
    """Return the F1 score of class 1 in class ids `[n]`; 0.0 if class 1 is neither labelled nor predicted."""
    labelled, predicted = labels == 1, predictions == 1
    return float(2 * (labelled & predicted).sum() / max(labelled.sum() + predicted.sum(), 1))


def macro_f1(labels: Array, predictions: Array) -> float:
    """Return the mean F1 score of all classes that occur in labels or predictions, class ids `[n]`."""
    counts = _confusion(labels, predictions)
    return float((2 * counts.diagonal() / (counts.sum(0) + counts.sum(1))).mean())


def matthews(labels: Array, predictions: Array) -> float:
    """Return the Matthews correlation of class ids `[n]`, in [-1, 1]; 0.0 if labels or predictions are constant.

    For more than two classes it is R_K of Gorodkin 2004 (doi 10.1016/j.compbiolchem.2004.09.006), as in scikit-learn.
    """
    if _constant(labels) or _constant(predictions):
        return 0.0
    counts, n = _confusion(labels, predictions).astype(np.float64), len(labels)
    predicted, labelled = counts.sum(0), counts.sum(1)
    spread = (n**2 - predicted @ predicted) * (n**2 - labelled @ labelled)
    return float((counts.trace() * n - predicted @ labelled) / np.sqrt(spread))


def pearson(labels: Array, predictions: Array) -> float:
    """Return the linear correlation of scores `[n]`, in [-1, 1]; 0.0 if labels or predictions are constant."""
    if _constant(labels) or _constant(predictions):
        return 0.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # the spread of nearly constant scores can be 0
        value = float(np.corrcoef(labels.astype(np.float64), predictions.astype(np.float64))[0, 1])
    return value if np.isfinite(value) else 0.0


def spearman(labels: Array, predictions: Array) -> float:
    """Return the rank correlation of scores `[n]`, in [-1, 1]; 0.0 if labels or predictions are constant."""
    from scipy.stats import rankdata

    return pearson(rankdata(labels), rankdata(predictions))


METRICS: Mapping[str, Callable[[Array, Array], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


def micro_f1(labels: Array, predictions: Array) -> float:
    """Return the F1 score of all labels of all examples together, from bool `[n, K]`; 0.0 if there are none."""
    return float(2 * (labels & predictions).sum() / max(labels.sum() + predictions.sum(), 1))


def label_macro_f1(labels: Array, predictions: Array) -> float:
    """Return the mean of the F1 scores of K labels, from bool `[n, K]`; a label that does not occur has 0.0."""
    both = 2 * (labels & predictions).sum(0)
    return float((both / np.maximum(labels.sum(0) + predictions.sum(0), 1)).mean())


MULTI_LABEL: Mapping[str, Callable[[Array, Array], float]] = {"micro_f1": micro_f1, "macro_f1": label_macro_f1}
"""Metrics of several labels per example, from labels and predictions bool `[n, K]`."""


def ranks(queries: Array, documents: Array, targets: Array) -> Array:
    """Return the rank `[n]`, from 1, of the document `targets[i]` for query i, by the product of their vectors.

    `queries` `[n, H]` and `documents` `[m, H]` are float32 vectors. Of equal documents, the earlier one ranks higher.
    """
    found = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), 1024):
        rows = slice(start, start + 1024)
        similarity = queries[rows] @ documents.T
        own = np.take_along_axis(similarity, targets[rows, None], 1)
        earlier = np.arange(len(documents)) < targets[rows, None]
        found[rows] = 1 + ((similarity > own) | ((similarity == own) & earlier)).sum(1)
    return found


def retrieval(queries: Sequence[str], found: Array) -> dict[str, Array]:
    """Return metric → value for each different query, float64 `[q]`.

    `found` `[n]` are the ranks of the relevant documents, and `queries` the query of each. nDCG@10 has binary gains;
    recall@k is the fraction of the relevant documents among the first k; MRR@10 is the mean of 1 / rank of the first
    relevant document, or 0 if it is not among the first ten.
    """
    by_query: dict[str, set[int]] = {}
    for query, rank in zip(queries, found.tolist(), strict=True):
        by_query.setdefault(query, set()).add(rank)
    values: dict[str, list[float]] = {name: [] for name in RETRIEVAL}
    for places in by_query.values():
        ideal = sum(1 / math.log2(place + 1) for place in range(1, min(len(places), 10) + 1))
        values["ndcg_at_10"].append(sum(1 / math.log2(place + 1) for place in places if place <= 10) / ideal)
        values["mrr_at_10"].append(1 / min(places) if min(places) <= 10 else 0.0)
        for k in (1, 10):
            values[f"recall_at_{k}"].append(sum(place <= k for place in places) / len(places))
    return {name: np.array(of) for name, of in values.items()}


RETRIEVAL = ("ndcg_at_10", "mrr_at_10", "recall_at_1", "recall_at_10")
"""The metrics of `retrieval`."""


def check_finite(predictions: Array) -> None:
    """Check that no prediction is NaN or infinite (BigsError)."""
    if not np.isfinite(predictions).all():
        raise BigsError(
            "Some predictions are not finite: the model has diverged. Train it again with a lower learning rate."
        )


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
    check_finite(predictions)
    return {name: METRICS[name](labels, predictions) for name in names}


def _confusion(labels: Array, predictions: Array) -> Array:
    """Return the number of examples by label (row) and prediction (column), of the classes that occur."""
    classes, ids = np.unique(np.concatenate([labels, predictions]), return_inverse=True)
    label_ids, prediction_ids = np.split(ids, 2)
    size = len(classes)
    return np.bincount(label_ids * size + prediction_ids, minlength=size * size).reshape(size, size)


def _constant(side: Array) -> bool:
    return bool((side == side[0]).all())
