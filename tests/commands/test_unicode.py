"""Half of a surrogate pair, which JSON escapes can contain, is not text: every command names its position."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bigs_cli import load_model
from bigs_cli.core.errors import RequestError
from tests.tiny import bigs

HALF = "half \ud83d pair"
WHOLE = "a whole pair \U0001f600"


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refused(place: str, *arguments: object) -> None:
    done = bigs(*arguments)
    assert (done.code, done.out) == (2, "")
    assert f"{place} is not valid Unicode: '" in done.err
    assert "has half of a surrogate pair, '\\ud83d'." in done.err


@pytest.mark.parametrize("where", ["train text", "train label", "dev text"])
def test_fine_tuning_on_a_table(where: str, pretrained: Path, tmp_path: Path) -> None:
    split, column = where.split()
    rows = [{"text": WHOLE, "label": str(i % 2)} for i in range(4)]
    bad = [*rows[:2], {**rows[2], column: HALF}, rows[3]]
    paths = {name: write(tmp_path / f"{name}.jsonl", *(bad if name == split else rows)) for name in ("train", "dev")}
    run = tmp_path / "run"
    refused(
        f"{paths[split]}:3",
        *("finetune", "--train", paths["train"], "--dev", paths["dev"], "--from", pretrained, "--run", run),
    )
    assert not run.exists()


def test_fine_tuning_on_the_files_of_a_task(pretrained: Path, tmp_path: Path) -> None:
    imdb, squad = tmp_path / "imdb", tmp_path / "squad"
    imdb.mkdir()
    write(imdb / "train.jsonl", {"text": WHOLE, "label": 0}, {"text": HALF, "label": 1})
    write(imdb / "test.jsonl", {"text": WHOLE, "label": 0})
    ask = ("--from", pretrained, "--run", tmp_path / "run")
    refused("train.jsonl:2", "finetune", "imdb", "--data", imdb, *ask)
    squad.mkdir()
    question = {"id": "q1", "question": HALF, "answers": [{"text": "a", "answer_start": 0}]}
    file = {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": WHOLE, "qas": [question]}]}]}
    for split in ("train", "dev"):
        (squad / f"{split}-v1.1.json").write_text(json.dumps(file))
    refused("train-v1.1.json, question q1", "finetune", "squad", "--data", squad, *ask)
    assert not (tmp_path / "run").exists()


def test_minimal_pairs(pretrained: Path, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", {"sentence_good": WHOLE, "sentence_bad": HALF})
    refused(f"{pairs}:1", "eval", "pairs", "--data", pairs, "--model", pretrained)


def test_predicting_and_the_api(models: Path, tmp_path: Path) -> None:
    texts = write(tmp_path / "texts.jsonl", {"text": WHOLE}, {"text": HALF})
    ask = ("predict", "--input", texts, "--model", models / "encoder")
    refused(f"{texts}:2", *ask, "--embed", "--output", tmp_path / "out.npy")
    model = load_model(models / "score")
    for call in (model.predict, model.embed):
        with pytest.raises(RequestError, match="text 2 is not valid Unicode"):
            call([WHOLE, HALF])
