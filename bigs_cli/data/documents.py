"""The items that a text source yields: documents, and records that could not be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bigs_cli.core.errors import RequestError, did_you_mean

TEXT_COLUMN = "text"


@dataclass(frozen=True)
class BadRecord:
    """A line, cell or file that cannot be read, which a caller may skip. `message` is a sentence."""

    message: str
    text: str = ""
    """A line that is not UTF-8, with a replacement character for each invalid byte."""


Documents = Iterator[str | BadRecord]


def find_text_column(columns: Sequence[str], strings: Sequence[str], asked: str | None, where: str) -> str:
    """Return the column to read: the requested one, else "text", else the only one in `strings`.

    Raises:
        RequestError: there is no such column, or there are several candidates.
    """
    wanted = asked or TEXT_COLUMN
    if wanted in columns:
        return wanted
    if asked is None and len(strings) == 1:
        return strings[0]
    raise RequestError(
        f"{where}: there is no column '{wanted}'.{did_you_mean(wanted, columns)} "
        f"Its columns are {', '.join(columns) or 'none'}; name the column of the text with --text-column NAME"
    )


def text_of(value: Any, column: str, where: str) -> str | BadRecord:
    """Return the text of a cell; null is empty text, and a value of another type is a bad record."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return BadRecord(f"{where}: the column '{column}' contains a value of type {type(value).__name__}, not text.")
    return value
