"""Examples in which two runs differ, as a person reads them."""

from __future__ import annotations

from bigs_cli.reporting.paired import example_cells


def test_tags_stand_with_their_words() -> None:
    line = {"id": 3, "words": ["In", "Paris"], "label": ["O", "B-LOC"], "prediction": ["O", "O"]}
    assert example_cells(line) == ["3", "In Paris", "Paris/B-LOC", "–"]


def test_a_list_without_words_is_several_answers() -> None:
    assert example_cells({"text": "where?", "label": ["here", "here", "there"], "prediction": []}) == [
        *("", "where?", "here │ there", "–")
    ]
