"""Answers that are not at their `answer_start` are located, left out, or refused; labels never mark other words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from tokenizers import Tokenizer

from bigs_cli.core.errors import RequestError
from bigs_cli.data.tokenizer import train_tokenizer
from bigs_cli.tasks import TASKS
from bigs_cli.tasks.splits import load_examples
from bigs_cli.tasks.types import type_of
from bigs_cli.tasks.types.question_answering import NOWHERE, QuestionExamples
from tests.tiny import bigs, finetune

CAFE = "The café on the corner of the naïve painter's street opened in 1898 and closed in 1931."
BYTES = {"a": ("1898", 65), "b": ("1931", 84), "c": ("The café", 0)}
"""Offsets in bytes; those of the first two differ from the offsets in characters."""


def write(folder: Path, name: str, *paragraphs: tuple[str, dict[str, tuple[str, int]]]) -> Path:
    folder.mkdir(exist_ok=True)
    made = [
        {
            "context": context,
            "qas": [
                {"id": key, "question": "When?", "answers": [{"text": text, "answer_start": at}]}
                for key, (text, at) in answers.items()
            ],
        }
        for context, answers in paragraphs
    ]
    (folder / name).write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": made}]}))
    return folder


def load(folder: Path, split: str = "train") -> QuestionExamples:
    made = load_examples(TASKS["squad"], split, folder)
    assert isinstance(made, QuestionExamples)
    return made


def labelled_answers(examples: QuestionExamples) -> list[str]:
    """Return the texts of the tokens that the labels mark as answers."""
    tokenizer: Tokenizer = train_tokenizer([CAFE, *examples.contexts], 300)
    windows: Any = type_of(TASKS["squad"]).encode(tokenizer, examples, 120)
    found = []
    for row, (first, last) in enumerate(windows.labels):
        spans = windows.places[windows.starts[row] :]
        found.append(examples.contexts[windows.examples[row]][spans[first][0] : spans[last][1]])
    return found


def many(count: int) -> dict[str, tuple[str, int]]:
    return {f"q{i}": ("1898", CAFE.index("1898")) for i in range(count)}


def test_byte_offsets_are_corrected(tmp_path: Path) -> None:
    made = load(write(tmp_path, "train-v1.1.json", (CAFE, BYTES)))
    assert labelled_answers(made) == ["1898", "1931", "The café"]
    assert made.answers == [[("1898", 63)], [("1931", 82)], [("The café", 0)]]
    (note,) = made.notes
    assert note.startswith(f"{tmp_path / 'train-v1.1.json'}: 2 of 3 questions (a, b) have an answer that is not at")


def test_a_few_missing_or_ambiguous_answers_are_left_out_of_training(tmp_path: Path) -> None:
    twice = "In 1898, 1898 people came."
    lost = {"x": ("1999", 7), "y": ("1898", 5)}
    few = write(tmp_path / "few", "train-v1.1.json", (CAFE, many(198)), (twice, lost))
    made = load(few)
    assert made.ids == [f"q{i}" for i in range(198)]
    assert "2 of 200 questions (x, y) have an answer that is neither at its answer_start nor at" in made.notes[0]
    assert made.notes[0].endswith("; they are left out.")
    assert made.take([0]).notes == made.notes
    write(tmp_path / "more", "train-v1.1.json", (CAFE, many(197)), (twice, lost))
    with pytest.raises(RequestError, match=r"2 of 199 questions \(x, y\) .* 1% may be left out: correct the file"):
        load(tmp_path / "more")


def test_offsets_outside_the_text_are_corrected(tmp_path: Path) -> None:
    answers = {"a": ("1898", 4000), "b": ("1931", -5), "c": ("opened", len(CAFE))}
    assert labelled_answers(load(write(tmp_path, "train-v1.1.json", (CAFE, answers)))) == ["1898", "1931", "opened"]


@pytest.mark.parametrize("text", ["", " "])
def test_a_blank_answer_is_left_out_of_training(text: str, tmp_path: Path) -> None:
    made = load(write(tmp_path, "train-v1.1.json", (CAFE, {"blank": (text, CAFE.index(" ")), **many(120)})))
    assert made.ids == [f"q{i}" for i in range(120)]
    assert "1 of 121 questions (blank) have an answer that is neither" in made.notes[0]


def test_the_dev_set_keeps_missing_answers(tmp_path: Path) -> None:
    made = load(write(tmp_path, "dev-v1.1.json", (CAFE, {"a": ("1999", 7), "b": ("1931", 84)})), "dev")
    assert made.answers == [[("1999", NOWHERE)], [("1931", 82)]]
    assert [record["label"] for record in made.records()] == [["1999"], ["1931"]]
    assert [record["places"] for record in made.records()] == [[None], [82]]
    assert labelled_answers(made)[1] == "1931"


def test_the_label_is_an_answer_that_is_in_the_text(tmp_path: Path) -> None:
    folder = write(tmp_path, "train-v1.1.json", (CAFE, {"a": ("1999", 7)}))
    content = json.loads((folder / "train-v1.1.json").read_text())
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"].append({"text": "1931", "answer_start": 84})
    (folder / "train-v1.1.json").write_text(json.dumps(content))
    assert labelled_answers(load(folder)) == ["1931"]


@pytest.mark.parametrize("context", ["👩‍🚀🚀 In 1898 they flew, in 1931 too.", "Cafe\u0301 nai\u0308ve: 1898, 1931."])
def test_offsets_count_characters(context: str, tmp_path: Path) -> None:
    answers = {year: (year, context.index(year)) for year in ("1898", "1931")}
    made = load(write(tmp_path, "train-v1.1.json", (context, answers)))
    assert (labelled_answers(made), made.notes) == (["1898", "1931"], ())


@pytest.mark.parametrize("saved", [True, False])
def test_byte_offsets_in_saved_data_sets_are_corrected(saved: bool, tmp_path: Path) -> None:
    answers = [{"text": [text], "answer_start": [at]} for text, at in BYTES.values()]
    columns = {"id": list(BYTES), "question": ["When?"] * 3, "context": [CAFE] * 3, "answers": answers}
    table = datasets.Dataset.from_dict(columns)
    if saved:
        table.save_to_disk(tmp_path / "train")
    else:
        table.to_parquet(tmp_path / "train.parquet")
    made = load(tmp_path)
    assert labelled_answers(made) == ["1898", "1931", "The café"]
    assert "2 of 3 questions (a, b)" in made.notes[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_files_in_any_unicode_encoding(encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path, "train-v1.1.json", (CAFE, many(1))) / "train-v1.1.json"
    path.write_bytes(json.dumps(json.loads(path.read_text()), ensure_ascii=False).encode(encoding))
    assert load(tmp_path).contexts == [CAFE]


def test_fine_tuning_reports_corrected_answers_and_refuses_missing_ones(pretrained: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "data", "train-v1.1.json", (CAFE, BYTES))
    write(data, "dev-v1.1.json", (CAFE, BYTES))
    done = bigs(*finetune("squad", pretrained, data, tmp_path / "run", "--dry-run")).fine()
    assert "2 of 3 questions (a, b) have an answer that is not at its answer_start" in done.err
    write(data, "train-v1.1.json", (CAFE, {**BYTES, "lost": ("1999", 7)}))
    done = bigs(*finetune("squad", pretrained, data, tmp_path / "run"))
    assert (done.code, done.out) == (2, "")
    assert "1 of 4 questions (lost)" in done.err
    assert not (tmp_path / "run").exists()


def test_published_files_need_no_correction(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "train-v1.1.json").symlink_to(shared / "data" / "squad" / "xquad.en.json")
    made = load(tmp_path)
    assert (len(made), made.notes) == (1190, ())
    np.testing.assert_equal(sum(len(given) for given in made.answers or []), 1190)
