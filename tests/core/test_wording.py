"""Numbers and paths in texts for people."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bigs_cli.core.wording import counted, duration, shortened, shortest_float, without_folders


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 steps"), (1, "1 step"), (1.0, "1 step"), (2.5, "2.5 steps"), (1500, "1,500 steps")]
)
def test_one_is_singular_and_thousands_are_separated(count: float, expected: str) -> None:
    assert counted(count, "step") == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0852, "85.2 ms"), (119, "119 seconds"), (180, "3 minutes"), (70200, "19.5 hours"), (351648, "4.07 days")],
)
def test_durations_have_three_digits(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_absolute_paths_in_nested_values_lose_their_folders() -> None:
    value = {"from": "/home/me/base", "data": {"path": "shards/wiki"}, "command": ["/usr/bin/bigs", "a/b"], "seed": 1}
    assert without_folders(value) == {
        "from": "base",
        "data": {"path": "shards/wiki"},
        "command": ["bigs", "a/b"],
        "seed": 1,
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["/a/x", "/b/y"], ["x", "y"]),
        (["/a/x", "/b/x"], ["a/x", "b/x"]),
        (["/a/c/x", "/b/c/x", None, 3], ["a/c/x", "b/c/x", None, 3]),
        (["/a/x", "/a/x"], ["x", "x"]),
        (["/x", "/a/x"], ["x", "a/x"]),
        ([["/a/x"], "/b"], [["x"], "b"]),
    ],
)
def test_shortened_paths_remain_distinct(values: list[object], expected: list[object]) -> None:
    assert shortened(values) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(2.4), "2.4"),
        (np.array(2.4, np.float32), "2.4"),
        (np.float32(1) / 3, "0.33333334"),
        (np.float32(16777216), "16777216.0"),
        (np.float64(2.4000000953674316), "2.4000000953674316"),
        (np.int32(16777217), "16777217.0"),
        (np.float32("nan"), "nan"),
        (np.float32("-inf"), "-inf"),
    ],
)
def test_a_float32_has_the_shortest_exact_decimals(value: object, expected: str) -> None:
    assert repr(shortest_float(value)) == expected


def test_the_log_of_a_run_has_short_decimals(pretrained: Path) -> None:
    entries = [json.loads(line) for line in (pretrained / "metrics.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    assert losses
    assert losses == [float(str(np.float32(loss))) for loss in losses]
