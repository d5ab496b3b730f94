"""Decimals of the numbers in files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bigs_cli.core.numbers import shortest_float


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
