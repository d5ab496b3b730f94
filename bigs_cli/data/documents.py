"""What a text source yields: documents, and what is wrong with the records it could not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bigs_cli.core.errors import RequestError, did_you_mean

TEXT_COLUMN = "text"


@dataclass(frozen=True)
class BadRecord:
    """A line, cell or file that cannot be read. Whoever reads on may pass over it; `message` is a sentence."""

    message: str
    text: str = ""
    """Of a line that is not UTF-8: the line, with a mark for each byte that is not."""


Documents = Iterator[str | BadRecord]


def find_text_column(columns: Sequence[str], strings: Sequence[str], asked: str | None, where: str) -> str:
    """Return the column to read: the one asked for, else "text", else the only one of `strings`.

    Raises:
        RequestError: there is no such column, or several could be meant.
    """
    wanted = asked or TEXT_COLUMN
    if wanted in columns:
        return wanted
    if asked is None and len(strings) == 1:
        return strings[0]
    raise RequestError(
        f"{where}: there is no column '{wanted}'.{did_you_mean(wanted, columns)} "
        f"Its columns are {', '.join(columns) or 'none'}; name the one with the text: --text-column NAME"
    )


def text_of(value: Any, column: str, where: str) -> str | BadRecord:
    """Return a cell as text, null as the empty text, and anything else as bad."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return BadRecord(f"{where}: the column '{column}' holds a {type(value).__name__}, not text.")
    return value
