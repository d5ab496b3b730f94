"""Text sources: anything that `--input` may name, as one stream of documents in a fixed order.

| source | documents |
|---|---|
| a file, or an address such as `gs://…`, `s3://…`, `hf://…` | by its kind: `readers.py` |
| a folder, or the address of one | those of its files of known kinds, at any depth, ordered by path |
| `owner/name`, `owner/name:config`, `owner/name:config:split` | a data set on the hub, streamed: `hub.py` |
| `python-docs` | the English documentation that this Python carries: `python_docs.py` |

Every document comes with the place after it, from which a later process reads on.
"""

from __future__ import annotations

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
    r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?::(?P<config>[\w.-]*))?(?::(?P<split>[\w.-]+))?",
)


@dataclass(frozen=True)
class Part:
    """A file or data set of a source."""

    source: str
    weight: float
    """How many times each of its documents is used."""
    identity: str
    """Name and size: another one means that the text was exchanged."""
    size: int
    """In bytes, compressed if it is; a guess where it is not known."""
    read: Callable[[int], Documents]
    """Yields all its records but the first n."""


class Place(BaseModel):
    """How far a corpus was read: `record` records of part number `part`, and whether its source has had text yet.

    `used` of the texts that the next record gives are used already.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: int = 0
    record: int = 0
    found: bool = False
    used: int = 0


def find_parts(
    sources: Sequence[str],
    how: ReadOptions | None = None,
    weights: Sequence[float] | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> list[Part]:
    """Return what `sources` consist of, in the order it is read; nothing is read yet.

    `say` is told of what a folder holds that cannot be read, such as links that lead nowhere.

    Raises:
        RequestError: a source does not exist, or is of no known kind.
        BigsError: an address cannot be reached.
    """
    parts = []
    for source, weight in zip(sources, weights or [1.0] * len(sources), strict=True):
        parts += [Part(source, weight, *rest) for rest in _parts_of(source, how or ReadOptions(), say)]
    return parts


def read_parts(parts: Sequence[Part], start: Place | None = None) -> Iterator[tuple[Part, Place, str | BadRecord]]:
    """Yield (part, the place after it, document or what is wrong) from `start` on. Blank documents are passed over.

    Raises:
        RequestError: a source holds no text, or not the column asked for.
        BigsError: a source broke off.
    """
    start = start or Place()
    found = start.found
    for number, part in enumerate(parts[start.part :], start=start.part):
        read = start.record if number == start.part else 0
        for record, document in enumerate(part.read(read), start=read + 1):
            if isinstance(document, str):
                if not document.strip():
                    continue
                found = True
            yield part, Place(part=number, record=record, found=found), document
        if number + 1 == len(parts) or parts[number + 1].source != part.source:
            if not found:
                raise RequestError(f"{part.source} holds no text. Name an --input that does, or leave it out.")
            found = False


def read_documents(sources: Sequence[str], text_column: str | None = None) -> Iterator[str]:
    """Yield all documents of `sources`, to be read once and to the end.

    Raises:
        RequestError: at once if a source does not exist; while reading, if a record is bad or a source empty.
        BigsError: a source cannot be reached, or broke off.
    """
    parts = find_parts(sources, ReadOptions(text_column=text_column))
    return (sound(document) for _, _, document in read_parts(parts))


def sound(document: str | BadRecord) -> str:
    """Return a document.

    Raises:
        RequestError: it is a record that cannot be read.
    """
    if isinstance(document, BadRecord):
        raise RequestError(document.message)
    return document


def _parts_of(
    source: str, how: ReadOptions, say: Callable[[str], None]
) -> Iterator[tuple[str, int, Callable[[int], Documents]]]:
    """Yield the identity, size and reader of everything in a source."""
    if source == PYTHON_DOCS:
        yield PYTHON_DOCS, 1 << 22, lambda skip: itertools.islice(read_python_docs(), skip, None)
        return
    if hub := _hub_id(source):
        from bigs_cli.data.hub import find_hub_split, read_hub_split

        found = find_hub_split(hub["repo"], hub["config"] or None, hub["split"])
        yield f"{found.name} at {found.commit}", 1 << 30, lambda skip: read_hub_split(found, how.text_column, skip)
        return
    files = find_files(source, say)
    if files is None:
        near = [str(path) for path in Path(source).parent.iterdir()] if Path(source).parent.is_dir() else []
        raise RequestError(
            f"There is no file or folder {source}.{did_you_mean(source, [*near, PYTHON_DOCS])} An --input is a file "
            f"({kinds()}), a folder of them, {PYTHON_DOCS}, or a data set on the hub, such as "
            "wikimedia/wikipedia:20231101.en."
        )
    alone = [file.name for file in files] == [source]
    readable = files if alone else [file for file in files if reader_of(file)]
    if not readable:
        raise RequestError(f"The folder {source} holds no {kinds()} files.")
    for file in readable:
        check_readable(file)
        yield f"{file.name} ({file.size()} bytes)", file.size(), functools.partial(read_file, file, how)


def _hub_id(source: str) -> re.Match[str] | None:
    """Return the parts of a data set's name, unless a file here has that name or could be meant."""
    path = Path(source)
    here = path.exists() or path.parent.is_dir() or path.suffix.lower() in (*READERS, *COMPRESSIONS)
    return None if here else _HUB_ID.fullmatch(source)
