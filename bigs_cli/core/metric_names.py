"""Metrics as files name them, and as people read them.

In files a metric keeps its name, its split is a field (or, in the flat keys of metrics.jsonl, a prefix), and its value
is a fraction. People read a name in words, and percent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_IN_WORDS = {
    "f1": "F1",
    "macro_f1": "macro F1",
    "exact": "exact match",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
}
# Keys of metrics.jsonl, and the metrics of a pretraining in results.json.
_LOGGED = {
    "loss": "training loss",
    "accuracy": "training accuracy",
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
    "tokens_per_second": "tokens/s",
    "data_wait_fraction": "waiting for data",
    "skipped": "skipped steps",
    "heldout_loss": "validation loss",
    "heldout_accuracy": "validation accuracy",
    "heldout_perplexity": "validation perplexity",
    "heldout_predictions": "validation tokens predicted",
}
_FRACTIONS = {"accuracy", "heldout_accuracy", "data_wait_fraction"}
_DEV_KEY = re.compile(r"(?P<split>dev(?:_mismatched)?)_(?P<metric>.+?)(?P<suffix>_mismatched)?")
_OLD_SUFFIX = "_mismatched"


def log_key(split: str, metric: str) -> str:
    """Return the key of a split's metric in metrics.jsonl: ``dev_mismatched_accuracy``."""
    return f"{split}_{metric}"


def split_and_metric(key: str) -> tuple[str, str] | None:
    """Return the split and the metric that a key of metrics.jsonl names; None for anything but a dev split.

    Logs of earlier releases have ``dev_accuracy_mismatched`` for ``dev_mismatched_accuracy``.
    """
    found = _DEV_KEY.fullmatch(key)
    return None if found is None else (found["split"] + (found["suffix"] or ""), found["metric"])


def by_split(scores: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return split → metric → value from an object with `metrics`: of results.json, of its history, or seeds.json.

    Files of earlier releases have no `splits`; their `metrics` hold ``accuracy_mismatched`` beside ``accuracy``.
    """
    if scores.get("splits"):
        return {split: dict(metrics) for split, metrics in scores["splits"].items()}
    found: dict[str, dict[str, Any]] = {scores.get("split", "dev"): {}}
    for name, value in scores["metrics"].items():
        old = name.endswith(_OLD_SUFFIX)
        split = f"dev{_OLD_SUFFIX}" if old else scores.get("split", "dev")
        found.setdefault(split, {})[name.removesuffix(_OLD_SUFFIX)] = value
    return found


def with_splits(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what files say of the metrics of `splits`: the first split by itself, then all. `by_split` reads it."""
    first = next(iter(splits))
    return {"split": first, "metrics": dict(splits[first]), "splits": {name: dict(of) for name, of in splits.items()}}


def metric_in_words(metric: str) -> str:
    """Return the name of a task's metric as people read it: ``macro F1``."""
    return _IN_WORDS.get(metric, metric.replace("_", " "))


def split_in_words(split: str) -> str:
    """Return the name of a split as people read it: ``dev mismatched``."""
    return split.replace("_", " ")


def key_in_words(key: str) -> str:
    """Return a key of metrics.jsonl or results.json as people read it: ``validation loss``, ``dev F1``."""
    if (named := split_and_metric(key)) is not None:
        return f"{split_in_words(named[0])} {metric_in_words(named[1])}"
    return _LOGGED.get(key, key.replace("_", " "))


def is_fraction(key: str) -> bool:
    """Whether the value of a key of metrics.jsonl is a fraction, which people read in percent."""
    return key in _FRACTIONS or split_and_metric(key) is not None


def percent(fraction: float | None, digits: int = 2) -> str:
    """Return a fraction in percent, without the sign; a dash for None, which stands for what was not finite."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f}"
