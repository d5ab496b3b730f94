"""Names of metrics in files and in tables.

In files, a metric has its short name and a fraction as its value; its split is a separate field, or a prefix in the
flat keys of metrics.jsonl. Tables show the name in words and the value in percent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_IN_WORDS = {
    "f1": "F1",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "ndcg_at_10": "nDCG@10",
    "mrr_at_10": "MRR@10",
    "recall_at_1": "recall@1",
    "recall_at_10": "recall@10",
    "exact": "exact match",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
}
# Keys of metrics.jsonl, and of the metrics of pretraining runs in results.json.
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
    "heldout_nats_per_character": "validation nats per masked character",
    "heldout_predictions": "validation tokens predicted",
}
_FRACTIONS = {"accuracy", "heldout_accuracy", "data_wait_fraction"}
_DEV_KEY = re.compile(r"(?P<split>dev(?:_mismatched)?)_(?P<metric>.+?)(?P<suffix>_mismatched)?")
_OLD_SUFFIX = "_mismatched"


def log_key(split: str, metric: str) -> str:
    """Return the key of a metric of a split in metrics.jsonl, such as ``dev_mismatched_accuracy``."""
    return f"{split}_{metric}"


def split_and_metric(key: str) -> tuple[str, str] | None:
    """Return the split and the metric of a key of metrics.jsonl, or None if the key is not one of a dev split.

    Logs of earlier releases have ``dev_accuracy_mismatched`` instead of ``dev_mismatched_accuracy``.
    """
    match = _DEV_KEY.fullmatch(key)
    return None if match is None else (match["split"] + (match["suffix"] or ""), match["metric"])


def metrics_by_key(results: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the metrics in results.json under the keys used in metrics.jsonl."""
    if not results.get("task"):
        return dict(results["metrics"])
    return {log_key(split, name): value for split, of in by_split(results).items() for name, value in of.items()}


def by_split(scores: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return split → metric → value from results.json, an entry of its `history`, or seeds.json.

    Files of earlier releases have no `splits`; their `metrics` have ``accuracy_mismatched`` beside ``accuracy``.
    """
    if scores.get("splits"):
        return {split: dict(metrics) for split, metrics in scores["splits"].items()}
    splits: dict[str, dict[str, Any]] = {scores.get("split", "dev"): {}}
    for name, value in scores["metrics"].items():
        old = name.endswith(_OLD_SUFFIX)
        split = f"dev{_OLD_SUFFIX}" if old else scores.get("split", "dev")
        splits.setdefault(split, {})[name.removesuffix(_OLD_SUFFIX)] = value
    return splits


def with_splits(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fields that store `splits` in a file; `by_split` is the inverse.

    They are `split` and `metrics` for the first split, and `splits` for all of them.
    """
    first = next(iter(splits))
    return {
        "split": first,
        "metrics": dict(splits[first]),
        "splits": {name: dict(metrics) for name, metrics in splits.items()},
    }


def metric_in_words(metric: str) -> str:
    """Return the name of a task's metric in words, such as ``macro F1``."""
    return _IN_WORDS.get(metric, metric.replace("_", " "))


def split_in_words(split: str) -> str:
    """Return the name of a split in words, such as ``dev mismatched``."""
    return split.replace("_", " ")


def key_in_words(key: str) -> str:
    """Return a key of metrics.jsonl or results.json in words, such as ``validation loss`` or ``dev F1``."""
    if (named := split_and_metric(key)) is not None:
        return f"{split_in_words(named[0])} {metric_in_words(named[1])}"
    return _LOGGED.get(key, key.replace("_", " "))


def is_fraction(key: str) -> bool:
    """Return whether the value of a key of metrics.jsonl is a fraction, which tables show in percent."""
    return key in _FRACTIONS or split_and_metric(key) is not None


def percent(fraction: float | None, digits: int = 2) -> str:
    """Return a fraction in percent, without the percent sign; a dash for None, which represents NaN and infinity."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f}"
