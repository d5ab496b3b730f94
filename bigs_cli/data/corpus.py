"""Text sources: anything that `--input` may name, as a stream of documents.

| source | documents |
|---|---|
| `.txt` | the file is one document; blank lines separate its paragraphs |
| `.jsonl` | one a line: an object with a text column |
| `.parquet` | one a row of the text column |
| a folder | those of its files of these kinds, at any depth, ordered by path |
| `owner/name` or `owner/name:config` | one a row of the train split of a data set on the hub, streamed |
| `python-docs` | the English documentation that this Python carries (`python_docs.py`) |

`.txt` and `.jsonl` may be compressed (`.gz`). Documents come in a fixed order; blank ones are passed over.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from bigs_cli.core.errors import RequestError, did_you_mean
from bigs_cli.data.python_docs import PYTHON_DOCS, read_python_docs

TEXT_COLUMN = "text"

_HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?::(?P<config>[\w.-]+))?")
_ROWS = 256

Documents = Iterator[str]


def read_documents(sources: Sequence[str], text_column: str | None = None) -> Documents:
    """Return the documents of all `sources`, one source after the other, read as they are asked for.

    `text_column` is where JSONL, Parquet and hub data sets keep their text; by default the column "text", or
    the only one that holds strings.

    Raises:
        RequestError: at once if a source does not exist; while reading, if one is empty, damaged, not UTF-8, or
            lacks the column (the message names file and line).
        BigsError: while reading, if the hub cannot be reached.
    """
    readers = [_reader(source, text_column) for source in sources]
    return _chain(sources, readers)


def _chain(sources: Sequence[str], readers: Sequence[Callable[[], Documents]]) -> Documents:
    for source, read in zip(sources, readers, strict=True):
        empty = True
        for document in read():
            if document.strip():
                empty = False
                yield document
        if empty:
            raise RequestError(f"{source} holds no text. Name an --input that does, or leave it out.")


def _reader(source: str, column: str | None) -> Callable[[], Documents]:
    """Return a function that reads `source`; nothing but its existence is looked at now."""
    path = Path(source)
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if _format(file) and not _hidden(file, path)]
        if not files:
            raise RequestError(f"The folder {path} holds no {_kinds()} files.")
        return lambda: (text for file in files for text in _read_file(file, column))
    if path.is_file():
        if not _format(path):
            raise RequestError(f"{path} is of no known kind. Text is read from {_kinds()} files.")
        return lambda: _read_file(path, column)
    if source == PYTHON_DOCS:
        return read_python_docs
    hub = _HUB_ID.fullmatch(source)
    if hub and not _format(path) and not path.parent.is_dir():
        from bigs_cli.data.hub import read_hub_documents

        return lambda: read_hub_documents(hub["repo"], hub["config"], column)
    raise RequestError(
        f"There is no file or folder {source}.{did_you_mean(source, _neighbours(path))} An --input is a file "
        f"({_kinds()}), a folder of them, {PYTHON_DOCS}, or a data set on the hub, such as "
        "wikimedia/wikipedia:20231101.en."
    )


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


def _read_file(path: Path, column: str | None) -> Documents:
    read = _format(path)
    assert read is not None
    try:
        yield from read(path, column)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RequestError(
            f"{path} is a damaged or truncated archive ({error}). Fetch it again; `gzip -t {path}` checks it."
        ) from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror or error}).") from None


def _read_text(path: Path, column: str | None) -> Documents:
    with _open(path) as file:
        data = file.read()
    try:
        yield data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, data.count(b"\n", 0, error.start) + 1, error) from None


def _read_jsonl(path: Path, column: str | None) -> Documents:
    found: str | None = None
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            where = f"{path}:{number}"
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise _not_utf8(path, number, error) from None
            except ValueError as error:
                raise RequestError(f"{where} is not JSON ({error}). One object a line is expected.") from None
            if not isinstance(row, dict):
                raise RequestError(f'{where} is not a JSON object, such as {{"{TEXT_COLUMN}": "…"}}.')
            if found is None or found not in row:
                strings = [name for name, value in row.items() if isinstance(value, str)]
                found = find_text_column(list(row), strings, column or found, where)
            yield checked_text(row[found], found, where)


def _read_parquet(path: Path, column: str | None) -> Documents:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            strings = [
                field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
            ]
            found = find_text_column(schema.names, strings, column, str(path))
            row = 0
            for batch in file.iter_batches(batch_size=_ROWS, columns=[found]):
                for value in batch.column(0).to_pylist():
                    row += 1
                    yield checked_text(value, found, f"{path}, row {row}")
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is not a sound Parquet file ({error}).") from None


def checked_text(value: Any, column: str, where: str) -> str:
    """Return a cell as text, null as the empty text; raise RequestError if it is anything else."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RequestError(f"{where}: the column '{column}' holds a {type(value).__name__}, not text.")
    return value


_FORMATS: dict[str, Callable[[Path, str | None], Documents]] = {
    ".txt": _read_text,
    ".txt.gz": _read_text,
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl,
    ".parquet": _read_parquet,
}


def _format(path: Path) -> Callable[[Path, str | None], Documents] | None:
    return next((read for suffix, read in _FORMATS.items() if path.name.lower().endswith(suffix)), None)


def _kinds() -> str:
    return ", ".join(_FORMATS)


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _neighbours(path: Path) -> list[str]:
    names = [str(file) for file in path.parent.iterdir()] if path.parent.is_dir() else []
    return [*names, PYTHON_DOCS]


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> RequestError:
    return RequestError(
        f"{path}:{line} is not UTF-8 ({error.reason}). Convert the file, for instance with: "
        f"iconv -f LATIN1 -t UTF-8 {path}"
    )
