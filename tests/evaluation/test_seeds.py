"""The summary of runs with several seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.seeds import summarize
from bigs_cli.tasks import get_task

RESUME = "bigs finetune --resume --run x"


def finished(folder: Path, seed: int, **metrics: float | None) -> RunFolder:
    """Write a finished run on CoLA with these metrics."""
    run = RunFolder(folder / f"seed-{seed}")
    run.path.mkdir()
    run.results_file.write_text(json.dumps({"metrics": metrics, "steps": 3, "seconds": 1.5, "seed": seed}))
    labels = ("unacceptable", "acceptable") * 3
    lines = ({"split": "dev", "label": label, "prediction": labels[1]} for label in labels)
    run.predictions_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_mean_standard_deviation_and_best(tmp_path: Path) -> None:
    summary = summarize(
        get_task("cola"), [finished(tmp_path, 1, matthews=0.25), finished(tmp_path, 2, matthews=0.75)], RESUME
    )
    assert (summary["seeds"], summary["best"], summary["seconds"]) == ([1, 2], "seed-2", 3.0)
    figures = summary["metrics"]["matthews"]
    assert (figures["mean"], figures["best"], figures["values"]) == (0.5, 0.75, [0.25, 0.75])
    assert figures["std"] == pytest.approx(0.5**0.5 / 2)
    assert figures["interval"] == [0.0, 0.0]  # Constant predictions have no correlation with the labels.


@pytest.mark.parametrize("metrics", [{}, {"matthews": None}, {"accuracy": 0.5}])
def test_a_run_without_the_metric_is_reported(metrics: dict[str, float | None], tmp_path: Path) -> None:
    runs = [finished(tmp_path, 1, matthews=0.25), finished(tmp_path, 2, **metrics)]
    for order in (runs, runs[::-1]):
        with pytest.raises(
            RequestError, match=r"seed-2/results\.json has no matthews.*`bigs finetune --resume --run x`"
        ):
            summarize(get_task("cola"), order, RESUME)
