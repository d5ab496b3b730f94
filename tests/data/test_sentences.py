"""Ends of sentences and paragraphs are marked where a reader would mark them; the text is not changed otherwise."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigs_cli.data.sentences import MARK, mark


@pytest.mark.parametrize(
    "parts",
    [
        ["It rains. ", "It pours! ", "Does it? ", "Yes…  ", "So it does."],
        ['"Go!" ', "He went. ", "(Slowly.) ", "“Why?” ", "Nobody knew."],
        ["Mr. Smith and Dr. J. R. Jones, e.g. Bob, met at No. 7. ", "They spoke, cf. Fig. 3."],
        ["The price is 3.50 pounds. ", "1864 was better."],
        ["He said so etc. and left."],
        ["A heading\n\n", "A paragraph\nof two lines. ", "Its end.\n\n\n", "Another"],
        ["你好。", "再见！", "好吗？", "好"],
        ["Один. ", "Два."],
        ["he lives in the u.s. and likes it."],
    ],
)
def test_sentences_are_marked(parts):
    assert mark("".join(parts), "sentences").split(MARK) == parts


def test_paragraphs_end_at_blank_lines_or_else_at_line_ends():
    assert mark("One. Two.\nStill.\n \n\nNext.", "paragraphs").split(MARK) == ["One. Two.\nStill.\n \n\n", "Next."]
    assert mark("One. Two.\nNext.", "paragraphs").split(MARK) == ["One. Two.\n", "Next."]
    assert mark("One. Two.\n\nNext.", "tokens") == "One. Two.\n\nNext."


@settings(max_examples=200)
@given(st.text("aB.!?…。\n\"' )Mr" + MARK, max_size=60), st.sampled_from(["sentences", "paragraphs", "tokens"]))
def test_only_marks_are_added(text, unit):
    assert mark(text, unit).replace(MARK, "") == text.replace(MARK, "")
