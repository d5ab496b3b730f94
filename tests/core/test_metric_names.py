"""Names of metrics in the files of this and earlier releases, and their names in words."""

from __future__ import annotations

from typing import Any

import pytest

from bigs_cli.core.metric_names import by_split, is_fraction, key_in_words, log_key, split_and_metric, with_splits


@pytest.mark.parametrize(
    ("key", "split", "metric", "words"),
    [
        ("dev_accuracy", "dev", "accuracy", "dev accuracy"),
        ("dev_macro_f1", "dev", "macro_f1", "dev macro F1"),
        ("dev_mismatched_accuracy", "dev_mismatched", "accuracy", "dev mismatched accuracy"),
    ],
)
def test_log_keys_consist_of_split_and_metric(key: str, split: str, metric: str, words: str) -> None:
    assert log_key(split, metric) == key
    assert split_and_metric(key) == (split, metric)
    assert key_in_words(key) == words
    assert is_fraction(key)


def test_log_keys_of_earlier_releases_end_with_the_split() -> None:
    assert split_and_metric("dev_accuracy_mismatched") == ("dev_mismatched", "accuracy")
    assert key_in_words("dev_accuracy_mismatched") == "dev mismatched accuracy"


def test_other_keys_are_not_dev_metrics() -> None:
    assert [split_and_metric(key) for key in ("loss", "heldout_loss", "device")] == [None] * 3
    assert key_in_words("heldout_loss") == "validation loss"
    assert key_in_words("heldout_nats_per_character") == "validation nats per masked character"
    assert key_in_words("of_a_tracker") == "of a tracker"
    assert is_fraction("heldout_accuracy")
    assert not is_fraction("heldout_loss")


def test_metrics_by_split_are_read_back() -> None:
    splits: dict[str, dict[str, Any]] = {"dev": {"accuracy": 0.5}, "dev_mismatched": {"accuracy": 0.25}}
    assert by_split(with_splits(splits)) == splits
    assert with_splits(splits)["metrics"] == {"accuracy": 0.5}
    assert by_split({"metrics": {"accuracy": 0.5, "accuracy_mismatched": 0.25}}) == splits
    assert by_split(with_splits({"test": {"f1": None}})) == {"test": {"f1": None}}
