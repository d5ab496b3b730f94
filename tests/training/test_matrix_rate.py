"""The machine's rate is measured once, and again only where it was forgotten or spoilt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bigs_cli.training import matrix_rate


def test_it_is_measured_once_for_each_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGS_CACHE", str(tmp_path))
    asked: list[str] = []
    monkeypatch.setattr(matrix_rate, "measure_matrix_rate", lambda dtype: asked.append(dtype) or 1e9 * len(asked))
    rates = [matrix_rate.matrix_rate(dtype) for dtype in ("float32", "bfloat16", "float32", "bfloat16")]
    assert (rates, asked) == ([1e9, 2e9, 1e9, 2e9], ["float32", "bfloat16"])
    file = tmp_path / "matrix-rates.json"
    assert sorted(json.loads(file.read_text()).values()) == [1e9, 2e9]
    for spoilt in ("{", "[]", json.dumps(dict.fromkeys(json.loads(file.read_text()), "fast"))):
        file.write_text(spoilt)
        assert matrix_rate.matrix_rate("float32") == 1e9 * len(asked)


def test_it_is_what_the_fastest_product_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that says how long each product took; the third one is not done in time."""
    readings = iter([0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.5, 2.5, 2.5, 3.5, 3.5])
    monkeypatch.setattr(matrix_rate.time, "perf_counter", lambda: next(readings))
    assert matrix_rate.measure_matrix_rate("float32", seconds=3.0) == 2 * 1024**3 / 0.5
