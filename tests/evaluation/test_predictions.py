"""Reading predictions.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.predictions import of_split, read_predictions
from bigs_cli.tasks import get_task
from bigs_cli.tasks.types import type_of


def pairs(task: str, lines: list[dict[str, Any]]) -> list[list[float]]:
    return [side.tolist() for side in type_of(get_task(task)).label_pairs(lines) or ()]


def test_predictions_are_read_back(tmp_path: Path) -> None:
    lines = [
        {"split": split, "label": label, "prediction": "entailment"}
        for split in ("dev", "dev_other")
        for label in ("entailment", "not_entailment")
    ]
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = of_split(read_predictions(path), "dev")
    assert read == lines[:2]
    assert pairs("rte", read) == [[0, 1], [0, 0]]
    assert pairs("stsb", [{"label": 2.5, "prediction": 3}]) == [[2.5], [3.0]]
    tagged = {"split": "dev", "label": ["O", "B-PER"], "prediction": ["O", "O"]}
    assert pairs("wikiann", [tagged, tagged]) == [[0, 1, 0, 1], [0, 0, 0, 0]]
    assert type_of(get_task("codah")).label_pairs([{"label": 1, "prediction": 1}]) is None
    with pytest.raises(RequestError, match="not those of MNLI"):
        pairs("mnli", lines)
    path.write_text("{}\n")
    with pytest.raises(RequestError, match="is not a predictions file"):
        read_predictions(path)
    for garbled, where in (
        ('"scores": {"a": "b"}', r"scores\."),
        ('"nbest": [{}]', "nbest.0.text"),
        ('"text": 1', "text"),
    ):
        path.write_text(f'{{"prediction": 0}}\n{{"prediction": 0, {garbled}}}\n')
        with pytest.raises(RequestError, match=rf"predictions\.jsonl:2 is invalid: {where}"):
            read_predictions(path)
    with pytest.raises(RequestError, match="cannot be read"):
        read_predictions(tmp_path / "absent.jsonl")
