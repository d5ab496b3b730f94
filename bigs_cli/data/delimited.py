"""The reader of CSV and TSV files, and the definition of a number in them.

All commands read such tables with `read_cells`, so that they treat quotes, delimiters, encodings and line numbers
alike.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from bigs_cli.core.errors import notice
from bigs_cli.data.documents import BadRecord
from bigs_cli.data.files import TextFile
from bigs_cli.data.lines import LONGEST_LINE, LONGEST_PIECE

_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "pipes"}
_QUOTED = re.compile(r'"(?:[^"]|"")*+"?')
# A JSON number, also with a leading plus, or without digits before or after the point. `float`
# also accepts 2020_01, nan, and the digits of every script.
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def parse_number(text: str) -> float | None:
    """Return the number in `text` (infinite if it is too large for a float), or None if it is not a number."""
    return float(text) if _NUMBER.fullmatch(text) else None


class RaggedRow(BadRecord):
    """A row with a different number of cells than the first."""


def read_cells(file: TextFile, delimiter: str | None = None) -> Iterator[tuple[int, list[str] | BadRecord]]:
    """Yield (number of the last line, cells) of each row that is not blank; the first row names the columns.

    A row that cannot be read is a `BadRecord`, and reading continues. Cells are separated by `delimiter`; None: by
    commas, or tabs in a `.tsv`. If the first row has none of these but another of `,`, tab, `;` and `|`, that is the
    delimiter, and a note is printed on stderr. In a `.tsv` with tabs, each line is a row and quotes are part of the
    text, as in GLUE. In all other files, quotes follow RFC 4180, and a quoted cell may contain line breaks. A row with
    a different number of cells than the first is a `RaggedRow`.

    Raises:
        BigsError: the connection to the file was lost.
    """
    lines = _Lines(file)
    delimiter = delimiter or _delimiter(file, lines.peek())
    plain = delimiter == "\t" and file.suffix == ".tsv"
    length: int | None = None
    for number, row in lines.plain_rows(delimiter) if plain else lines.quoted_rows(delimiter):
        if not isinstance(row, BadRecord):
            length = length or len(row)
            if len(row) != length:
                what = f"{file.name}:{number} has {len(row)} cells; the first line names {length} columns."
                row = RaggedRow(
                    f"{what} Cells are separated by {_DELIMITERS.get(delimiter, delimiter)}. Correct the row."
                )
        yield number, row


def unique_names(header: Sequence[str]) -> list[str]:
    """Return column names, with names that occur several times numbered: ``id.1``, ``id.2``."""
    counts = Counter(header)
    if len(counts) == len(header):
        return list(header)
    taken = set(counts)
    numbers: Counter[str] = Counter()
    names: list[str] = []
    for name in header:
        new = name
        while counts[name] > 1 and new in taken:
            numbers[name] += 1
            new = f"{name or 'unnamed'}.{numbers[name]}"
        taken.add(new)
        names.append(new)
    return names


def _delimiter(file: TextFile, first: str) -> str:
    """Return the delimiter of `file`, whose first line with text is `first`."""
    usual = "\t" if file.suffix == ".tsv" else ","
    counts = Counter(_QUOTED.sub("", first))
    found = usual if counts[usual] else max(_DELIMITERS, key=lambda mark: counts[mark])
    if not counts[found]:
        return usual
    if found != usual:
        notice(f"{file.name}: the columns are separated by {_DELIMITERS[found]}, not {_DELIMITERS[usual]}.")
    return found


class _Lines:
    """The lines of a file. The lines of the current row are kept for error messages."""

    def __init__(self, file: TextFile) -> None:
        self._name = file.name
        self._lines: Iterator[tuple[int, str | BadRecord]] = file.lines()
        self._number = 0
        self._held: list[str] = []
        self._bad: list[BadRecord] = []

    def peek(self) -> str:
        """Return the first line with text, or "" if there is none. Only that line and the empty lines before it are
        read.
        """
        kept: list[tuple[int, str | BadRecord]] = []
        text = ""
        for number, line in self._lines:
            text = (line.text if isinstance(line, BadRecord) else line).strip("\r\n")
            if text or isinstance(line, BadRecord):
                kept.append((number, line))
            if text:
                break
        self._lines = itertools.chain(kept, self._lines)
        return text

    def _next(self) -> Iterator[str]:
        """Yield lines. In a line that is not UTF-8, invalid bytes are replaced, so that its quotes and delimiters still
        count.
        """
        size = 0
        for number, line in self._lines:
            self._number = number
            text = line.text if isinstance(line, BadRecord) else line
            if isinstance(line, BadRecord):
                self._bad.append(line)
            size = len(text) + (size if self._held else 0)
            self._held.append(text)
            yield text
            if self._held and size > LONGEST_PIECE:  # An unclosed quote: no row of several lines is that long.
                return

    def _row(self, cells: list[str] | None, first: bool) -> Iterator[tuple[int, list[str] | BadRecord]]:
        """Yield the result of a row, and drop its lines. The first row always names the columns."""
        for bad in self._bad:
            yield self._number, bad
        if cells and (first or not self._bad):
            yield self._number, cells
        self._bad.clear()
        self._held.clear()

    def plain_rows(self, delimiter: str) -> Iterator[tuple[int, list[str] | BadRecord]]:
        first = True
        for line in self._next():
            text = line.removesuffix("\n").removesuffix("\r")
            yield from self._row(text.split(delimiter) if text else None, first)
            first = first and not text

    def quoted_rows(self, delimiter: str) -> Iterator[tuple[int, list[str] | BadRecord]]:
        csv.field_size_limit(LONGEST_LINE)
        rows = csv.reader(self._next(), delimiter=delimiter, strict=True)
        first = True
        while True:
            try:
                cells = next(rows, None)
            except csv.Error as error:
                self._bad.append(BadRecord(self._problem(delimiter, error)))
                cells = None if first else []  # Without column names, no row can be read.
            yield from self._row(cells, first)
            if cells is None:
                return
            first = first and not cells

    def _problem(self, delimiter: str, error: csv.Error) -> str:
        """Return an error message for the current row."""
        text = "".join(self._held)
        quote, closed = _last_quote(text, delimiter)
        begins = self._number - len(self._held) + 1
        if quote is None:
            reason = "a carriage return without a newline" if "new-line character" in str(error) else error
            return f"{self._name}:{self._number} is not a table row ({reason})."
        opened = begins + text.count("\n", 0, quote)
        if not closed:
            return (
                f"{self._name}:{opened} opens a quote that is never closed, so the rows after it cannot be read. "
                'Close it; a quote that is part of a text is written "" within a cell in quotes.'
            )
        return (
            f"{self._name}:{self._number} has text after the closing quote of the cell that starts on line "
            f"{opened}. Move it to the end of the cell; a quote that is part of a text is written "
            '"" within a cell in quotes.'
        )


def _last_quote(text: str, delimiter: str) -> tuple[int | None, bool]:
    """Return the offset in `text` at which the malformed quoted cell starts, and whether its quote is closed.

    The offset is None if there is no such cell.
    """
    quote, closed, place = None, True, 0
    while True:
        if text.startswith('"', place):
            found = _QUOTED.match(text, place)
            assert found is not None
            quote, place = place, found.end()
            closed = text.count('"', quote, place) % 2 == 0
            if not closed or not text.startswith((delimiter, "\r", "\n"), place):
                return quote, closed
        place = text.find(delimiter, place) + 1
        if not place:
            return None, True
