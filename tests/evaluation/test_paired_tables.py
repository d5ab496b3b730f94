"""Tables of the examples for which the predictions of two runs differ."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from bigs_cli.evaluation.paired import example_table
from bigs_cli.tasks import get_task
from bigs_cli.tasks.types import type_of

WIKIANN = type_of(get_task("wikiann"))


def cells(table: Table) -> dict[str, list[str]]:
    return {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}


def test_words_with_differing_tags_are_listed() -> None:
    line = {
        "id": 3,
        "words": ["In", "Paris", "Ann", "Lee", "sings"],
        "label": ["O", "B-LOC", "B-PER", "I-PER", "O"],
    }
    one = {**line, "prediction": ["O", "B-LOC", "B-PER", "O", "O"]}
    other = {**line, "prediction": ["O", "O", "B-PER", "I-PER", "O"]}
    columns = cells(example_table(WIKIANN, "", [(one, other), (one, one)], ("a", "b"), further={"wrong": ["1", "2"]}))
    assert list(columns) == ["id", "word", "label", "a", "b", "wrong", "text"]
    assert columns["word"] == ["Paris\nLee", "Lee"]
    assert columns["label"] == ["B-LOC\nI-PER", "I-PER"]
    assert columns["a"] == ["B-LOC\nO", "O"]
    assert columns["b"] == ["O\nI-PER", "O"]
    assert columns["text"] == ["In Paris Ann Lee sings"] * 2
    right = {**line, "prediction": line["label"]}
    assert cells(example_table(WIKIANN, "", [(right,)], ("a",)))["word"] == ["–"]


def test_long_lists_of_words_are_truncated() -> None:
    line = {"words": ["word"] * 30, "label": ["B-PER"] * 30, "prediction": ["O"] * 30}
    columns = cells(example_table(WIKIANN, "", [(line,)], ("a",)))
    assert columns["word"][0].splitlines()[-2:] == ["word", "… 19 more"]
    assert [len(columns[name][0].split("\n")) for name in ("word", "label", "a")] == [12, 12, 12]


def test_a_list_of_answers_is_joined() -> None:
    line: dict[str, Any] = {"text": "where?", "label": ["here", "here", "there"], "prediction": []}
    assert cells(example_table(type_of(get_task("squad")), "", [(line,)], ("a",))) == {
        "id": [""],
        "text": ["where?"],
        "label": ["here │ there"],
        "a": ["–"],
    }
