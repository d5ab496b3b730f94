"""Where the sentences and paragraphs of a text end, by punctuation and line ends alone.

A sentence ends with . ! ? or …, closing quotes and brackets included, before white space that no lower-case letter
follows, unless the full stop belongs to an initial or a common abbreviation; with 。！？; and with a blank line. Rows
are only cut there, so a wrong end merely leaves a row a little less full.
"""

from __future__ import annotations

import re
from typing import Literal

Unit = Literal["sentences", "paragraphs", "tokens"]

MARK = "\ue0ff"
"""Follows every sentence or paragraph of a marked text but the last. A private-use character, which no text needs."""

_ABBREVIATIONS = (
    *("Mr", "Mrs", "Ms", "Dr", "St", "Prof", "Rev", "Gen", "Col", "Capt", "Lt", "Sgt", "Hon", "Jr", "Sr", "Mt"),
    *("vs", "etc", "cf", "ca", "al", "No", "Fig", "Vol", "pp", "ed", "eds", "e.g", "i.e", "Inc", "Ltd", "Co"),
)
_NOT_AFTER = "".join(rf"(?<!\b{re.escape(word)}\.)" for word in ("[A-Z]", *_ABBREVIATIONS)).replace(
    r"\[A\-Z\]", "[A-Z]"
)

# One set of characters comes first, so that the search skips all other characters fast.
_SENTENCE_END = re.compile(
    r"[.!?…\n。！？](?:"
    rf"(?<=[.!?…]){_NOT_AFTER}[\"'”’)\]]*\s+(?![\"'“‘(\[]*[a-zß-öø-ÿ])"
    r"|(?<=\n)[^\S\n]*\n\s*"
    r"|(?<=[。！？])[\"'”’）」』]*\s*)"
)
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_LINE_END = re.compile(r"\n\s*")


def mark(text: str, unit: Unit) -> str:
    """Return `text` with `MARK` after every sentence, or every paragraph, and after nothing for "tokens".

    Paragraphs are separated by blank lines or, in a text without any, by line ends.
    """
    text = text.replace(MARK, "")
    if unit == "tokens":
        return text
    if unit == "sentences":
        return _SENTENCE_END.sub(rf"\g<0>{MARK}", text)
    ends = _BLANK_LINE if _BLANK_LINE.search(text) else _LINE_END
    return ends.sub(rf"\g<0>{MARK}", text)
