"""`bigs predict`: texts from all kinds of input, predictions to all kinds of output, and nothing else on stdout."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import os
import re
import signal
import subprocess
import sys
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from bigs_cli import inference, load_model
from bigs_cli.data.tokenizer import load_tokenizer
from tests.tiny import HANG, bigs, start_bigs, wait_until

TEXTS = ["The river runs to the sea.", "Bread, “water” and salt", "Old houses"]


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_masked_word_on_the_command_line(models: Path) -> None:
    done = bigs("predict", "The goal of life is [MASK].", "--model", models / "masked-lm", "--top", 2).fine()
    (answer,) = load_model(models / "masked-lm").predict("The goal of life is [MASK].", top=2)
    for word in answer["masks"][0]:
        assert word["token"] in done.out
        assert f"{word['probability']:.1%}" in done.out
    assert answer["filled"] in done.out


@pytest.mark.parametrize(
    ("head", "more", "words"),
    [
        ("sequence-classification", (), ("bad", "fair", "good")),
        ("score", ("--pair", "the sea"), ("score",)),
        ("next-sentence", ("--pair", "the sea"), ("follows",)),
        ("token-classification", (), ("entity",)),
        ("question-answering", ("--question", "where?"), ("answer", "probability")),
        ("multiple-choice", ("--ending", "the sea", "--ending", "the rock"), ("the sea", "the rock")),
    ],
)
def test_every_head_as_a_table_and_as_json(models: Path, head: str, more: tuple[str, ...], words: tuple[str]) -> None:
    shown = bigs("predict", TEXTS[0], "--model", models / head, *more).fine().out
    assert all(word in shown for word in words)
    done = bigs("predict", *TEXTS, "--model", models / head, *more, "--format", "jsonl").fine()
    given = [{"text": text} for text in TEXTS]
    second = {"--pair": "pair", "--question": "question"}.get(more[0] if more else "")
    if second == "question":
        given = [{"context": text} for text in TEXTS]
    inputs: list[Any] = [one | ({second: more[1]} if second else {}) for one in given]
    if head == "multiple-choice":
        inputs = [one | {"endings": [more[1], more[3]]} for one in given]
    assert lines(done.out) == load_model(models / head).predict(inputs)


def written(folder: Path, kind: str) -> Path:
    rows = [{"id": i, "review": text, "stars": 3} for i, text in enumerate(TEXTS)]
    path = folder / f"in.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif kind.startswith("jsonl"):
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "jsonl.gz", "parquet"])
def test_files_keep_their_columns(models: Path, tmp_path: Path, kind: str) -> None:
    ask = ("predict", "--input", written(tmp_path, kind), "--model", models / "sequence-classification")
    done = bigs(*ask, "--text", "review").fine()
    expected = load_model(models / "sequence-classification").predict(TEXTS)
    found = lines(done.out)
    assert [(int(row["id"]), row["review"]) for row in found] == list(enumerate(TEXTS))
    assert [row["scores"] for row in found] == [row["scores"] for row in expected]
    bigs(*ask, "--output", tmp_path / "out.csv", "--text", "review").fine()
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["prediction"] for row in table] == [row["prediction"] for row in expected]
    assert float(table[0]["scores.good"]) == expected[0]["scores"]["good"]
    assert b"\r" not in (tmp_path / "out.csv").read_bytes()


def test_scores_have_the_decimals_of_float32(models: Path, tmp_path: Path) -> None:
    expected = load_model(models / "score").predict(TEXTS)
    ask = ("predict", "--input", written(tmp_path, "jsonl"), "--text", "review", "--model", models / "score")
    found = re.findall(r'"prediction": ([^,}]+)', bigs(*ask).fine().out)
    bigs(*ask, "--output", tmp_path / "out.csv").fine()
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == found
    assert found == [str(np.float32(number)) for number in found] == [str(row["prediction"]) for row in expected]


def test_lines_of_a_file_and_of_stdin(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join([TEXTS[0], "", TEXTS[1], "  ", TEXTS[2]]) + "\n"
    (tmp_path / "in.txt").write_text(text)
    of_file = bigs("predict", "--input", tmp_path / "in.txt", "--model", models / "score").fine()
    assert "Blank lines skipped: 2." in of_file.err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    of_stdin = bigs("predict", "--model", models / "score").fine()
    assert of_stdin.out == of_file.out
    assert [row["text"] for row in lines(of_file.out)] == TEXTS


def test_embeddings_are_written_to_files(models: Path, tmp_path: Path) -> None:
    ask = (
        "predict",
        "--input",
        written(tmp_path, "jsonl"),
        "--text",
        "review",
        "--model",
        models / "encoder",
        "--embed",
    )
    done = bigs(*ask, "--output", tmp_path / "out.npy").fine()
    assert done.out == ""
    expected = load_model(models / "encoder").embed(TEXTS)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    bigs(*ask, "--output", tmp_path / "out.parquet").fine()
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pydict()
    assert table["text"] == TEXTS
    assert table["id"] == [0, 1, 2]
    np.testing.assert_array_equal(np.array(table["embedding"], np.float32), expected)


def test_nan_and_infinity_become_null_in_json_lines(models: Path, tmp_path: Path) -> None:
    rows = [
        {"text": text, "price": number, "all": [1.0, number]}
        for text, number in zip(TEXTS, (nan, inf, 0.5), strict=True)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "in.parquet")
    ask = ("predict", "--input", tmp_path / "in.parquet", "--model", models / "score")
    found = [json.loads(line, parse_constant=pytest.fail) for line in bigs(*ask).fine().out.splitlines()]
    assert [(row["price"], row["all"]) for row in found] == [(None, [1, None]), (None, [1, None]), (0.5, [1, 0.5])]
    bigs(*ask, "--output", tmp_path / "out.csv").fine()
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        cells = [json.loads(row["all"], parse_constant=pytest.fail) for row in csv.DictReader(file)]
    assert cells == [[1, None], [1, None], [1, 0.5]]


@pytest.mark.parametrize(
    ("ids", "written_as"),
    [
        ([1, 2, "three", 4], ["1", "2", "three", "4"]),
        ([1, 2, 2**70, None], ["1", "2", str(2**70), None]),
        ([None, None, 3, 4], [None, None, 3, 4]),
        (["\ud800", "b", 3, 4.5], ["\\ud800", "b", "3", "4.5"]),
    ],
)
def test_embedding_ids_may_change_their_type(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: list[Any], written_as: list[Any]
) -> None:
    """Rows that were written before the first id of another type are complete too."""
    monkeypatch.setattr("bigs_cli.inference.WINDOW", 2)
    texts = [*TEXTS, TEXTS[0]]
    rows = [{"id": one, "text": text} for one, text in zip(ids, texts, strict=True)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "out.parquet"
    bigs(
        "predict", "--input", tmp_path / "in.jsonl", "--model", models / "encoder", "--embed", "--output", output
    ).fine()
    table = pyarrow.parquet.read_table(output).to_pydict()
    assert (table["id"], table["text"]) == (written_as, texts)
    expected = load_model(models / "encoder").embed(texts)
    np.testing.assert_allclose(np.array(table["embedding"], np.float32), expected, atol=1e-5)
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "out.parquet"}


def test_embedding_ids_may_be_missing_in_early_rows(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigs_cli.inference.WINDOW", 2)
    rows = [{"text": TEXTS[0]}, {"text": TEXTS[1]}, {"text": TEXTS[2], "id": 7}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ask = ("predict", "--input", tmp_path / "in.jsonl", "--model", models / "encoder", "--embed")
    bigs(*ask, "--output", tmp_path / "out.parquet").fine()
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pydict()["id"] == [None, None, 7]


def test_truncated_texts_are_reported(models: Path) -> None:
    """A text of exactly the maximum length is not truncated."""
    tokenizer = load_tokenizer(models / "score" / "tokenizer.json")
    full = "the " * 30
    assert len(tokenizer.encode(full, add_special_tokens=False)) == 30
    for text, warning in ((full, ""), (full + "sea", "Texts truncated to 32 tokens: 1.")):
        done = bigs("predict", text, "the sea", "--model", models / "score").fine()
        assert [line for line in done.err.splitlines() if "truncated" in line] == ([warning] if warning else [])


def test_other_encodings_are_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the sea\ncaf\xe9\n")))
    of_stdin = bigs("predict", "--model", models / "score")
    assert (of_stdin.code, of_stdin.out) == (2, "")
    assert "stdin:2 is not UTF-8" in of_stdin.err
    given = bigs("predict", "the sea", os.fsdecode(b"caf\xe9"), "--model", models / "score")
    assert (given.code, given.out) == (2, "")
    assert "text 2 is not valid Unicode" in given.err


@pytest.mark.parametrize("more", [("--output", "new/out.jsonl"), ("--embed", "--output", "new/out.npy")])
def test_empty_inputs_write_no_file(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n \n")))
    done = bigs("predict", "--model", models / "score", *more)
    assert (done.code, done.out) == (2, "")
    assert "There is no text" in done.err
    assert not list(tmp_path.iterdir())


def test_compressed_text_files(models: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt.xz").write_bytes(lzma.compress("\n".join(TEXTS).encode()))
    done = bigs("predict", "--input", tmp_path / "in.txt.xz", "--model", models / "score").fine()
    assert [row["text"] for row in lines(done.out)] == TEXTS


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        (
            "next-sentence",
            "its columns are id, review, stars. Name the columns of both texts: --text COLUMN --pair",
        ),
        ("question-answering", "Name the columns of the question and of its text: --question COLUMN --text COLUMN"),
        ("multiple-choice", "in.csv: no endings; its columns are id, review, stars. Name them: --ending COLUMN"),
        ("masked-lm", "its columns are id, review, stars. Name the column of the text: --text COLUMN."),
    ],
)
def test_missing_columns_are_named(models: Path, tmp_path: Path, head: str, sentence: str) -> None:
    done = bigs("predict", "--input", written(tmp_path, "csv"), "--model", models / head)
    assert (done.code, done.out) == (2, "")
    assert sentence in " ".join(done.err.split())


def test_rows_without_a_text_are_refused(models: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "the sea", "id": 1}\n{"id": 2}\n')
    done = bigs("predict", "--input", tmp_path / "in.jsonl", "--model", models / "score")
    assert (done.code, done.out) == (2, "")
    assert "in.jsonl:2 has no 'text', unlike the first item" in " ".join(done.err.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("text", "--input", "in.csv"), "Use either texts on the command line or --input"),
        (("text", "--text", "review"), "--text names a column of --input"),
        (("--input", "nowhere.csv"), "--input nowhere.csv does not exist"),
        (("--input", "in.csv", "--text", "revue"), "has no column 'revue'. Did you mean 'review'?"),
        (("text", "--question", "where?"), "--question is not for this model"),
        (("text", "--question", ""), "--question is not for this model"),
        (("--input", "in.csv", "--output", "./in.csv"), "would overwrite it"),
        (("text", "--embed"), "--embed requires a file"),
        (("text", "--output", "out.npy"), "Add --embed"),
        (("text", "--length", 99), "takes at most 32 tokens"),
        (("text", "--format", "table", "--output", "out.csv"), "--format table is for the terminal"),
    ],
)
def test_invalid_options_are_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], sentence: str
) -> None:
    written(tmp_path, "csv")
    monkeypatch.chdir(tmp_path)
    done = bigs("predict", *arguments, "--model", models / "sequence-classification")
    assert (done.code, done.out) == (2, "")
    assert sentence in " ".join(done.err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_bad_row_leaves_the_output_file_unchanged(models: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "the sea"}\n{"text": 7}\n')
    (tmp_path / "out.jsonl").write_text("mine\n")
    ask = ("predict", "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    done = bigs(*ask, "--model", models / "score")
    assert done.code == 2
    assert "is 7, which is not text" in done.err
    assert (tmp_path / "out.jsonl").read_text() == "mine\n"


def test_a_closed_pipe_ends_prediction(models: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("the old river runs to the sea\n" * 5000)
    ask = ("predict", "--input", tmp_path / "in.txt", "--model", models / "trimmed", "--length", 16)
    with start_bigs(*ask) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        json.loads(process.stdout.readline())
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "Exception" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_files(models: Path, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "in.txt").write_text("the old river runs to the sea\n" * 500_000)
    ask = ("predict", "--input", tmp_path / "in.txt", "--model", models / "trimmed", "--length", 16)
    process = start_bigs(*ask, "--output", tmp_path / "out" / "answers.jsonl")
    wait_until(lambda: list(tmp_path.glob("out/.*")), process)
    assert list(tmp_path.glob("out/.*"))
    process.send_signal(number)
    err = process.communicate(timeout=HANG)[1]
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not list((tmp_path / "out").iterdir())


def test_help_does_not_import_jax() -> None:
    script = "import sys; from bigs_cli.commands import predict; print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_repeated_prediction_keeps_all_columns(models: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "0.csv").write_text("id,text,id\n007,the sea,a\n008,old houses,b\n")
    rounds: list[list[dict[str, Any]]] = []
    for n, head in enumerate(
        ("sequence-classification", "score", "sequence-classification", "sequence-classification")
    ):
        source = tmp_path / (f"{n}.{kind}" if n else "0.csv")
        written = tmp_path / f"{n + 1}.{kind}"
        bigs("predict", "--input", source, "--text", "text", "--output", written, "--model", models / head).fine()
        text = written.read_text()
        rounds.append(list(csv.DictReader(io.StringIO(text))) if kind == "csv" else lines(text))
    first, score, *_, last = ([row[key] for row in found] for found in rounds for key in ("prediction",))
    assert [row["id.1"] for row in rounds[-1]] == ["007", "008"]
    assert [row["id.2"] for row in rounds[-1]] == ["a", "b"]
    assert [row["input.prediction"] for row in rounds[-1]] == first
    assert [row["input.prediction.2"] for row in rounds[-1]] == score
    assert [row["input.prediction.3"] for row in rounds[-1]] == last
    assert [row["prediction"] for row in rounds[-1]] == last
    scores = [{key for key in row if "scores" in key} for row in rounds[-1]]
    names = ("scores.bad", "scores.fair", "scores.good") if kind == "csv" else ("scores",)
    assert scores == [{name for key in names for name in (key, f"input.{key}", f"input.{key}.2")}] * 2
    assert len(rounds[-1][0]) == (16 if kind == "csv" else 10)


def test_embeddings_keep_all_columns(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where their types change after the first rows were written."""
    monkeypatch.setattr(inference, "WINDOW", 2)
    rows: list[dict[str, Any]] = [
        {"id": 1, "text": "the sea", "embedding": "mine", "flag": True, "n": None},
        {"id": 2, "text": "the rock", "embedding": "mine", "flag": None, "n": None},
        {"id": 2**70, "text": "the town", "embedding": "mine", "flag": False, "n": 1.5},
        {"id": "x", "text": "the river", "embedding": "mine", "more": ["\ud83d"]},
        {"id": None, "text": "the hills", "embedding": "mine", "n": 2},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ask = ("predict", "--input", tmp_path / "in.jsonl", "--text", "text", "--embed", "--model", models / "encoder")
    bigs(*ask, "--output", tmp_path / "out.parquet").fine()
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pydict()
    vectors = np.array(table.pop("embedding"), np.float32)
    np.testing.assert_allclose(vectors, load_model(models / "encoder").embed([row["text"] for row in rows]), atol=1e-6)
    assert table == {
        "text": [row["text"] for row in rows],
        "id": ["1", "2", str(2**70), "x", None],
        "input.embedding": ["mine"] * 5,
        "flag": [True, None, False, None, None],
        "n": [None, None, 1.5, None, 2.0],
        "more": [None, None, None, '["\\ud83d"]', None],
    }


def test_duplicate_json_keys_are_refused(models: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "the sea", "id": 1, "id": 2}\n')
    done = bigs("predict", "--input", tmp_path / "in.jsonl", "--model", models / "score")
    assert (done.code, done.out) == (2, "")
    assert "in.jsonl:1 is not JSON (an object has the key 'id' twice)" in done.err


def test_columns_named_like_prediction_keys_are_kept(models: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "the sea", "prediction": "mine"}\n')
    done = bigs("predict", "--input", tmp_path / "in.jsonl", "--model", models / "sequence-classification").fine()
    (found,) = lines(done.out)
    assert found["input.prediction"] == "mine"
    assert found["prediction"] in ("bad", "fair", "good")
