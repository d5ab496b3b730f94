"""One reader per text file format: `read(file, options)` yields the documents of a file, and bad records.

| ending | documents |
|---|---|
| `.txt` | the file, or each line, or each block between blank lines, as set by `options.text_documents` |
| `.jsonl`, `.ndjson`, `.json` | one per line: an object with a text column |
| `.csv`, `.tsv` | one per row: the cell of the text column, which the first line names |
| `.parquet` | one per row: the cell of the text column |
| `wiki_00`, `wiki_01`, … | WikiExtractor's output, as `<doc …>` or as JSON lines |

All may be compressed: `.gz`, `.bz2`, `.xz`, `.zst`.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from bigs_cli.core.errors import RequestError
from bigs_cli.data.delimited import parse_number
from bigs_cli.data.documents import BadRecord, Documents, find_text_column, text_of
from bigs_cli.data.files import TextFile
from bigs_cli.data.lines import COMPRESSIONS
from bigs_cli.data.parquet import read_parquet
from bigs_cli.data.rows import Rows, delimited_rows, json_rows

TextDocuments = Literal["file", "block", "line"]

LONGEST_TEXT = 1 << 22
"""In characters. A longer `.txt` or WikiExtractor document is split at a line end, to bound memory."""

_WIKI_NAME = re.compile(r"wiki_\d+")
_WIKI_DOC = re.compile(r"<doc\s[^>]*>\s*")
_WIKI_END = "</doc>"


@dataclass(frozen=True)
class ReadOptions:
    """Settings for reading a file."""

    text_column: str | None = None
    """The column of the text in JSONL, CSV, Parquet and hub data sets; None: detected."""
    text_documents: TextDocuments = "file"
    """What a document is in a `.txt` file: the whole file, a block between blank lines, or a line."""


Reader = Callable[[TextFile, ReadOptions], Documents]


def reader_of(file: TextFile) -> Reader | None:
    """Return the reader of a file, or None if its format is unknown."""
    if _WIKI_NAME.fullmatch(PurePosixPath(file.path).name.removesuffix(file.compression)):
        return _read_wiki
    return READERS.get(file.suffix)


def kinds() -> str:
    """Return the supported formats, for a message."""
    return f"{', '.join(READERS)} (also with {', '.join(COMPRESSIONS)}), WikiExtractor's wiki_00"


def _read_text(file: TextFile, options: ReadOptions) -> Documents:
    lines = file.lines(pieces=True)
    first = next(((n, line) for n, line in lines if isinstance(line, BadRecord) or line.strip()), None)
    if first is None:
        return
    lines = itertools.chain((first,), lines)
    if isinstance(first[1], str) and _WIKI_DOC.match(first[1]):
        yield from _wiki_documents(lines)
    elif options.text_documents == "line":
        yield from (line for _, line in lines)
    else:
        yield from _text_documents(lines, options.text_documents)


def _text_documents(lines: Iterator[tuple[int, str | BadRecord]], ends: TextDocuments) -> Documents:
    held: list[str] = []
    size = 0
    for _, line in lines:
        if isinstance(line, BadRecord):
            yield line
            continue
        held.append(line)
        size += len(line)
        if size >= LONGEST_TEXT or (ends == "block" and line.isspace()):
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)


def _read_wiki(file: TextFile, options: ReadOptions) -> Documents:
    lines = file.lines()
    first = next(lines, None)
    if first is None:
        return
    lines = itertools.chain((first,), lines)
    if isinstance(first[1], str) and first[1].lstrip().startswith("{"):
        yield from _json_documents(file, lines, options)
    else:
        yield from _wiki_documents(lines)


def _wiki_documents(lines: Iterator[tuple[int, str | BadRecord]]) -> Documents:
    """Yield the documents in the format `<doc id=… title=…>`, title, blank line, text, `</doc>`, HTML-escaped."""
    held: list[str] = []
    size = 0
    for _, line in lines:
        if isinstance(line, BadRecord):
            yield line
            continue
        ends = line.startswith(_WIKI_END)
        if not ends and not _WIKI_DOC.match(line):
            held.append(line)
            size += len(line)
        if ends or size >= LONGEST_TEXT:
            yield html.unescape("".join(held))
            held, size = [], 0
    yield html.unescape("".join(held))


def _read_jsonl(file: TextFile, options: ReadOptions) -> Documents:
    return _json_documents(file, file.lines(), options)


def _json_documents(file: TextFile, lines: Iterator[tuple[int, str | BadRecord]], options: ReadOptions) -> Documents:
    return _row_documents(json_rows(lines, file.name), options)


def _row_documents(rows: Rows, options: ReadOptions, is_text: Callable[[str], bool] = lambda cell: True) -> Documents:
    """Yield the text of each row; the text column is one whose cell in the first row is a string and `is_text`."""
    found: str | None = None
    for place, row in rows:
        if isinstance(row, BadRecord):
            yield row
            continue
        if found is None:
            strings = [name for name, cell in row.items() if isinstance(cell, str) and is_text(cell)]
            found = find_text_column(list(row), strings, options.text_column, place)
        if found not in row:
            yield BadRecord(f"{place} has no column '{found}', unlike the lines before it.")
        else:
            yield text_of(row[found], found, place)


def _read_csv(file: TextFile, options: ReadOptions) -> Documents:
    return _row_documents(delimited_rows(file), options, lambda cell: parse_number(cell) is None)


READERS: dict[str, Reader] = {
    ".txt": _read_text,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": lambda file, options: read_parquet(file, options.text_column),
}


def read_file(file: TextFile, options: ReadOptions, skip: int = 0) -> Documents:
    """Return the records of a file after the first `skip`; in Parquet files, skipped row groups are not read.

    Raises:
        RequestError: its format is unknown.
    """
    reader = check_readable(file)
    if file.suffix == ".parquet":
        return read_parquet(file, options.text_column, skip)
    return itertools.islice(reader(file, options), skip, None)


def check_readable(file: TextFile) -> Reader:
    """Return the file's reader.

    Raises:
        RequestError: its format is unknown.
    """
    reader = reader_of(file)
    if reader is None:
        raise RequestError(f"{file.name} has an unknown format. Supported formats: {kinds()}.")
    return reader
