"""Finds the ends of sentences and paragraphs, by punctuation and line ends only.

A sentence ends at . ! ? or … with any closing quotes and brackets, if it is followed by white space that is not
followed by a lower-case letter, unless the full stop belongs to an initial or a common abbreviation. It also ends at
。！？ and at a blank line. The ends only determine where rows are split, so a wrong end only makes a row slightly
shorter.
"""

from __future__ import annotations

import re
from typing import Literal

Unit = Literal["sentences", "paragraphs", "tokens"]

MARK = "\ue0ff"
"""Separates the sentences or paragraphs of a marked text. A private-use character, which does not occur in text."""

_ABBREVIATIONS = (
    *("Mr", "Mrs", "Ms", "Dr", "St", "Prof", "Rev", "Gen", "Col", "Capt", "Lt", "Sgt", "Hon", "Jr", "Sr", "Mt"),
    *("vs", "etc", "cf", "ca", "al", "No", "Fig", "Vol", "pp", "ed", "eds", "e.g", "i.e", "Inc", "Ltd", "Co"),
)
_NOT_AFTER = "".join(rf"(?<!\b{re.escape(word)}\.)" for word in ("[A-Z]", *_ABBREVIATIONS)).replace(
    r"\[A\-Z\]", "[A-Z]"
)

# The pattern starts with a set of characters, so that the search skips all others fast.
_SENTENCE_END = re.compile(
    r"[.!?…\n。！？](?:"
    rf"(?<=[.!?…]){_NOT_AFTER}[\"'”’)\]]*\s+(?![\"'“‘(\[]*[a-zß-öø-ÿ])"
    r"|(?<=\n)[^\S\n]*\n\s*"
    r"|(?<=[。！？])[\"'”’）」』]*\s*)"
)
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_LINE_END = re.compile(r"\n\s*")


def mark(text: str, unit: Unit) -> str:
    """Return `text` with `MARK` after every sentence or paragraph; for "tokens", return it unchanged.

    Paragraphs are separated by blank lines or, in a text without any, by line ends.
    """
    text = text.replace(MARK, "")
    if unit == "tokens":
        return text
    if unit == "sentences":
        return _SENTENCE_END.sub(rf"\g<0>{MARK}", text)
    ends = _BLANK_LINE if _BLANK_LINE.search(text) else _LINE_END
    return ends.sub(rf"\g<0>{MARK}", text)
