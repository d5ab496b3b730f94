"""A task of one's own: any table with a text and a label is learned, measured and told what is wrong with it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bigs_cli.core.errors import RequestError
from bigs_cli.recipe.schema import TaskFiles
from bigs_cli.tasks.custom import custom_task, look_at
from bigs_cli.tasks.read import load_examples
from tests.tiny import bigs

ROWS = [
    {"review": 'a "good", long\nbook', "title": "one", "stars": 5},
    {"review": "a bad book", "title": "two", "stars": 1},
    {"review": "neither", "title": "three", "stars": 3},
    {"review": "good", "title": "four", "stars": 5},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    import csv

    if ".csv" in path.suffixes:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        text = "\n".join(json.dumps(row) for row in rows) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def files(path: Path, **more: Any) -> TaskFiles:
    return TaskFiles(train=str(path), dev=str(path), text="review", label="stars", **more)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.jsonl.gz", "t.parquet"])
def test_every_kind_of_table_says_the_same(name: str, tmp_path: Path) -> None:
    found, what = look_at(files(write(tmp_path / name, ROWS), pair="title"))
    assert found.labels == ("1", "3", "5")
    assert what == "3 classes (1 1, 3 1, 5 2): classification"
    task = custom_task(found)
    examples = load_examples(task, "dev")
    assert list(examples.records()) == [
        {"id": i, "text": row["review"], "pair": row["title"], "label": {5: 2, 1: 0, 3: 1}[row["stars"]]}
        for i, row in enumerate(ROWS)
    ]


def test_scores_are_told_from_classes(tmp_path: Path) -> None:
    halves = [{"review": "x", "stars": 0.5 * i} for i in range(5)]
    found, what = look_at(files(write(tmp_path / "a.jsonl", halves)))
    assert (found.regression, found.labels) == (True, None)
    assert what == "5 scores from 0 to 2: regression"
    many = [{"review": "x", "stars": i} for i in range(60)]
    assert look_at(files(write(tmp_path / "b.csv", many)))[0].regression
    whole = [{"review": "x", "stars": float(i % 2)} for i in range(4)]
    assert look_at(files(write(tmp_path / "c.parquet", whole)))[0].labels == ("0", "1")
    words = [{"review": "x", "stars": word} for word in ("no", "yes", "no")]
    assert look_at(files(write(tmp_path / "d.csv", words)))[0].labels == ("no", "yes")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"review": "x", "star": 1}], "has no column 'stars'. Did you mean 'star'?"),
        ([{"text": "x", "stars": 1}], "has no column 'review'"),
        ([{"review": 7, "stars": 1}], "holds 7, which is no text"),
        ([{"review": "x", "stars": 1}, {"review": "y", "stars": 1}], "Every label in"),
        ([{"review": "x", "stars": 1}, {"review": "y", "stars": None}], ":2 has no label"),
        ([{"review": "x", "stars": f"a{i}"} for i in range(60)], "60 different values"),
        ([{"review": "x", "stars": 1}, {"review": "y"}], ":2 has no column 'stars', which the rows before it have"),
    ],
)
def test_what_is_wrong_is_said(rows: list[dict[str, Any]], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as refused:
        look_at(files(write(tmp_path / "t.jsonl", rows)))
    assert sentence in str(refused.value)


def test_tables_that_are_none(tmp_path: Path) -> None:
    for name, text, sentence in (
        ("a.jsonl", "[1]\n", "a.jsonl:1 is not a JSON object"),
        ("b.jsonl", "{\n", "b.jsonl:1 is not JSON"),
        ("c.csv", "review,stars\nx,1,2\n", "c.csv:2 has 3 cells"),
        ("d.csv", "review,stars\n", "holds no rows"),
        ("e.doc", "x", "is of no known kind"),
        ("f.parquet", "x", "cannot be read as Parquet"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(RequestError) as refused:
            look_at(files(tmp_path / name))
        assert sentence in str(refused.value)
    with pytest.raises(RequestError, match="There is no file"):
        look_at(files(tmp_path / "absent.csv"))


def test_it_is_trained_and_measured(pretrained: Path, tmp_path: Path) -> None:
    """Two words that never occur together tell the classes apart."""
    random = np.random.default_rng(0)
    rows = [
        {"review": f"the {'river' if i % 2 else 'bread'} of {random.integers(9)}", "stars": i % 2} for i in range(48)
    ]
    train, dev = write(tmp_path / "train.csv", rows[:32]), write(tmp_path / "dev.csv", rows[32:])
    tiny = ("epochs=12", "batch_size=8", "sequence_length=16", "optimizer.learning_rate=1e-2", "evaluate_every=8")
    sets = [word for value in (*tiny, "patience=6") for word in ("--set", value)]
    columns = ("--text", "review", "--label", "stars")
    run = tmp_path / "run"
    done = bigs("finetune", "--train", train, "--dev", dev, *columns, "--from", pretrained, "--run", run, *sets).fine()
    assert "2 classes (0 16, 1 16): classification" in done.err
    results = json.loads((run / "results.json").read_text())
    assert results["metrics"]["accuracy"] >= 0.9
    assert {"recipe", "versions", "seed", "seconds", "data"} <= results.keys()
    assert results["history"][0]["step"] == 8
    if results["steps"] < 48:
        assert "Stopped early" in done.err
        assert len(results["history"]) - 1 - [e["step"] for e in results["history"]].index(results["step"]) == 6
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == [row["review"] for row in rows[32:]]
    right = sum(line["label"] == line["prediction"] for line in lines) / len(lines)
    assert right == results["metrics"]["accuracy"]
    again = json.loads(bigs("eval", "--model", run, "--json").fine().out)
    assert again["metrics"] == results["metrics"]
    fewer = write(tmp_path / "fewer.jsonl", rows[40:])
    written = tmp_path / "answers.jsonl"
    bigs("eval", "--model", run, "--data", fewer, "--predictions", written).fine()
    assert written.read_text().count("\n") == 8
    refused = bigs("finetune", "--train", train, *columns, "--from", pretrained, "--run", tmp_path / "none")
    assert (refused.code, (tmp_path / "none").exists()) == (2, False)
    assert "--dev FILE" in refused.err
