"""metrics.jsonl: writing, and reading after a crash."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from bigs_cli.reporting.metrics_log import MetricsLog, read_metrics


def test_entries_are_json_lines(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write(1, loss=np.float32(0.5), name="a", count=3, flag=True, none=None)
    log.write(2, loss=float("nan"), peak=float("inf"))
    first, second = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert first == {"step": 1, "loss": 0.5, "name": "a", "count": 3, "flag": True, "none": None}
    assert second == {"step": 2, "loss": None, "peak": None}


def test_later_entries_are_dropped_on_resume(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 2, 3):
        log.write(step, loss=step)
    with log.path.open("a") as file:
        file.write('{"step": 4, "lo')
    log.drop_after(2)
    assert [entry["step"] for entry in read_metrics(log.path)] == [1, 2, 2]
    log.drop_after(0)
    assert read_metrics(log.path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_missing_log_has_no_entries(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "none.jsonl") == []
