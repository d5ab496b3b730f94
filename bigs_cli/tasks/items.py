"""Inputs of predictions outside tasks: one `Item` per prediction, in the `InputFormat` of the head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Item:
    """The input of one prediction.

    `text_a` is the text, its words, or the question; `text_b` the other text of a pair, or the text a question is
    about; `endings` are the possible continuations of `text_a`. `columns` are copied to the output record; error
    messages begin with `place`.
    """

    text_a: str | list[str]
    text_b: str | None
    endings: tuple[str, ...]
    columns: Mapping[str, Any]
    place: str

    @property
    def text(self) -> str:
        """`text_a` as one string."""
        return self.text_a if isinstance(self.text_a, str) else " ".join(self.text_a)

    def __len__(self) -> int:
        """Return the number of characters of all texts."""
        return len(self.text) + len(self.text_b or "") + sum(map(len, self.endings))


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """The inputs of a head, their names for callers, and their columns in a table.

    Attributes:
        wanted: a description of the input, for an error message. keys: the names of `text_a` and `text_b` in Python and
        in files; None: there is no `text_b`. options: the options of `bigs predict` that give, or name the columns of,
        `text_a` and `text_b`. text_b: whether there is a second text. words: whether `text_a` may be a list of words.
        endings: whether there are endings to choose from. column_hint: which options name the columns of a table.
        key_hint: which keys a dict needs. example: an input in Python syntax.
    """

    wanted: str
    keys: tuple[str, str | None] = ("text", None)
    options: tuple[str, str | None] = ("text", None)
    text_b: Literal["no", "optional", "required"] = "no"
    words: bool = False
    endings: bool = False
    column_hint: str
    key_hint: str
    example: str = ""

    def resembles(self, other: InputFormat) -> bool:
        """Whether the two formats have the same kind of `text_a`, so that they can share a column."""
        return (self.options[0], self.words, self.endings) == (other.options[0], other.words, other.endings)

    @property
    def columns(self) -> list[tuple[str, str | None]]:
        """The columns to look for in a table, the most likely first."""
        words: list[tuple[str, str | None]] = [("words", None)] if self.words else []
        return [*words, self.keys, (self.keys[0], None)]


TEXT = InputFormat(
    wanted="one text",
    column_hint="Name the column of the text: --text COLUMN",
    key_hint="Put the text under 'text'",
)
TEXT_OR_PAIR = InputFormat(
    wanted="a text, or a pair of texts",
    keys=("text", "pair"),
    options=("text", "pair"),
    text_b="optional",
    column_hint="Name the column of the text, --text COLUMN, and for pairs the column of the second text, --pair "
    "COLUMN",
    key_hint="Put the text under 'text', and the second of a pair under 'pair'",
)
PAIR = InputFormat(
    wanted="a pair of texts",
    keys=("text", "pair"),
    options=("text", "pair"),
    text_b="required",
    column_hint="Name the columns of both texts: --text COLUMN --pair COLUMN",
    key_hint="Put the texts under 'text' and 'pair'",
    example=': (text, pair) or {"text": …, "pair": …}',
)
