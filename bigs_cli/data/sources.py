"""Text sources: reads everything that `--input` accepts as one stream of documents in a fixed order.

| source | documents |
|---|---|
| a file, or a URL such as `gs://…`, `s3://…`, `hf://…` | by its format: `readers.py` |
| a folder, or the URL of one | those of all files in known formats, at any depth, sorted by path |
| `owner/name`, `owner/name:config`, `owner/name@revision:config:split` | a data set on the hub, streamed: `hub.py` |
| `python-docs` | the English documentation in this Python: `python_docs.py` |

Every document is yielded with the cursor after it, from which a later process can continue.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bigs_cli.core.errors import RequestError, did_you_mean
from bigs_cli.data.documents import BadRecord, Documents
from bigs_cli.data.files import find_files
from bigs_cli.data.lines import COMPRESSIONS
from bigs_cli.data.python_docs import PYTHON_DOCS, read_python_docs
from bigs_cli.data.readers import READERS, ReadOptions, check_readable, kinds, read_file, reader_of

_HUB_ID = re.compile(
    r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?(:(?P<config>[\w.-]*))?(:(?P<split>[\w.-]+))?",
)


@dataclass(frozen=True)
class Part:
    """A file or data set of a source."""

    source: str
    weight: float
    """The average number of times that each document is used."""
    identity: str
    """Name and size, used to detect that the text has changed."""
    size: int
    """In bytes, before decompression; an estimate if it is unknown."""
    read: Callable[[int], Documents]
    """Yields the records after the first n."""


class Cursor(BaseModel):
    """A position in the sources: after `record` records of part number `part`.

    `found` is whether the source of that part has yielded text so far. `used` is the number of used pieces of the next
    record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: int = 0
    record: int = 0
    found: bool = False
    used: int = 0


def find_parts(
    sources: Sequence[str],
    options: ReadOptions | None = None,
    weights: Sequence[float] | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> list[Part]:
    """Return the parts of `sources` in reading order, without reading them.

    `say` is called with a note on entries of a folder that cannot be read, such as broken links.

    Raises:
        RequestError: a source does not exist, or its format is unknown.
        BigsError: a URL cannot be reached.
    """
    parts = []
    for source, weight in zip(sources, weights or [1.0] * len(sources), strict=True):
        parts += [Part(source, weight, *rest) for rest in _parts_of(source, options or ReadOptions(), say)]
    return parts


def read_parts(
    parts: Sequence[Part], start: Cursor | None = None, stop: int | None = None
) -> Iterator[tuple[Part, Cursor, str | BadRecord]]:
    """Yield (part, cursor after the record, document or bad record) from `start` on, without blank documents.

    With `stop`, only the parts before that number are read.

    Raises:
        RequestError: a source contains no text, or lacks the requested column.
        BigsError: reading a source failed.
    """
    start = start or Cursor()
    found = start.found
    for number, part in enumerate(parts[start.part : stop], start=start.part):
        read = start.record if number == start.part else 0
        for record, document in enumerate(part.read(read), start=read + 1):
            if isinstance(document, str):
                if not document.strip():
                    continue
                found = True
            yield part, Cursor(part=number, record=record, found=found), document
        if number + 1 == len(parts) or parts[number + 1].source != part.source:
            if not found:
                raise RequestError(f"{part.source} contains no text. Name another --input, or leave it out.")
            found = False


def read_documents(sources: Sequence[str], text_column: str | None = None) -> Iterator[str]:
    """Yield all documents of `sources`.

    Raises:
        RequestError: a source does not exist (raised at once), a record is bad or a source is empty (raised while
            reading).
        BigsError: a source cannot be reached, or reading it failed.
    """
    parts = find_parts(sources, ReadOptions(text_column=text_column))
    return (require_text(document) for _, _, document in read_parts(parts))


def require_text(document: str | BadRecord) -> str:
    """Return the text of a document.

    Raises:
        RequestError: it is a bad record.
    """
    if isinstance(document, BadRecord):
        raise RequestError(document.message)
    return document


def _parts_of(
    source: str, options: ReadOptions, say: Callable[[str], None]
) -> Iterator[tuple[str, int, Callable[[int], Documents]]]:
    """Yield the identity, size and reader of each part of a source."""
    if source == PYTHON_DOCS:
        yield PYTHON_DOCS, 1 << 22, lambda skip: itertools.islice(read_python_docs(), skip, None)
        return
    if hub := _hub_id(source):
        from bigs_cli.data.hub import find_hub_split, read_hub_split

        found = find_hub_split(hub["repo"], hub["config"] or None, hub["split"], hub["revision"])
        if not found.files:
            at = f"{found.name} at {found.commit}"
            yield at, 1 << 30, lambda skip: read_hub_split(found, options.text_column, skip)
        for file in found.files:
            one = functools.partial(read_hub_split, dataclasses.replace(found, files=[file]), options.text_column)
            yield f"{file.name} at {found.commit}", file.size(), one
        return
    files = find_files(source, say)
    if files is None:
        near = [str(path) for path in Path(source).parent.iterdir()] if Path(source).parent.is_dir() else []
        raise RequestError(
            f"There is no file or folder {source}.{did_you_mean(source, [*near, PYTHON_DOCS])} An --input is a file "
            f"({kinds()}), a folder of such files, {PYTHON_DOCS}, or a data set on the hub, such as "
            "wikimedia/wikipedia:20231101.en."
        )
    alone = [file.name for file in files] == [source]
    readable = files if alone else [file for file in files if reader_of(file)]
    if not readable:
        raise RequestError(f"The folder {source} contains no files in a supported format: {kinds()}.")
    for file in readable:
        check_readable(file)
        yield f"{file.name} ({file.size()} bytes)", file.size(), functools.partial(read_file, file, options)


def _hub_id(source: str) -> re.Match[str] | None:
    """Return the match of the id of a data set; None if `source` is, or looks like, a local file."""
    path = Path(source)
    here = path.exists() or path.parent.is_dir() or path.suffix.lower() in (*READERS, *COMPRESSIONS)
    return None if here else _HUB_ID.fullmatch(source)
