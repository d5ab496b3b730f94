"""Predictions read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.predictions import answers, read_predictions
from bigs_cli.tasks import get_task


def test_lines_are_read_back(tmp_path: Path) -> None:
    task = get_task("rte")
    lines = [
        {"split": split, "label": label, "prediction": "entailment"}
        for split in ("dev", "dev_other")
        for label in ("entailment", "not_entailment")
    ]
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = answers(task, read_predictions(path))
    assert (read.labels.tolist(), read.predictions.tolist()) == ([0, 1], [0, 0])
    scores = answers(get_task("stsb"), [{"split": "dev", "label": 2.5, "prediction": 3}])
    assert (scores.labels.tolist(), scores.predictions.tolist()) == ([2.5], [3.0])
    tagged = {"split": "dev", "label": ["O", "B-PER"], "prediction": ["O", "O"]}
    words = answers(get_task("wikiann"), [tagged, tagged])
    assert (words.labels.tolist(), words.predictions.tolist()) == ([0, 1, 0, 1], [0, 0, 0, 0])
    with pytest.raises(RequestError, match="not those of MNLI"):
        answers(get_task("mnli"), lines)
    path.write_text("{}\n")
    with pytest.raises(RequestError, match="does not hold predictions"):
        read_predictions(path)
    for garbled, where in (
        ('"scores": {"a": "b"}', r"scores\."),
        ('"nbest": [{}]', "nbest.0.text"),
        ('"text": 1', "text"),
    ):
        path.write_text(f'{{"prediction": 0}}\n{{"prediction": 0, {garbled}}}\n')
        with pytest.raises(RequestError, match=rf"predictions\.jsonl:2 is garbled: {where}"):
            read_predictions(path)
    with pytest.raises(RequestError, match="cannot be read"):
        read_predictions(tmp_path / "absent.jsonl")
