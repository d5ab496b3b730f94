"""The peak FLOP/s are measured once, and again only if the cached value is missing or invalid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bigs_cli.training import peak_flops


def test_peak_flops_are_measured_once_per_dtype(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGS_CACHE", str(tmp_path))
    measured: list[str] = []
    monkeypatch.setattr(peak_flops, "measure_peak_flops", lambda dtype: measured.append(dtype) or 1e9 * len(measured))
    rates = [peak_flops.peak_flops(dtype) for dtype in ("float32", "bfloat16", "float32", "bfloat16")]
    assert (rates, measured) == ([1e9, 2e9, 1e9, 2e9], ["float32", "bfloat16"])
    file = tmp_path / "peak-flops.json"
    assert sorted(json.loads(file.read_text()).values()) == [1e9, 2e9]
    for invalid in ("{", "[]", json.dumps(dict.fromkeys(json.loads(file.read_text()), "fast"))):
        file.write_text(invalid)
        assert peak_flops.peak_flops("float32") == 1e9 * len(measured)


def test_peak_flops_come_from_the_fastest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses a fake clock with a duration for each product; the third product exceeds the time limit."""
    readings = iter([0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.5, 2.5, 2.5, 3.5, 3.5])
    monkeypatch.setattr(peak_flops.time, "perf_counter", lambda: next(readings))
    assert peak_flops.measure_peak_flops("float32", seconds=3.0) == 2 * 1024**3 / 0.5
