"""Lines of open text files: separated only by newlines, of bounded length, in UTF-8, or UTF-16 or UTF-32 with a BOM."""

from __future__ import annotations

import codecs
import io
import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from bigs_cli.data.documents import BadRecord

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
"""Suffixes of files that are decompressed as they are read."""

LONGEST_LINE = 1 << 30
"""Maximum length of a line in bytes, which bounds memory; a longer line is an error. Chosen by this project."""

LONGEST_PIECE = 1 << 26
"""In bytes. Longer lines of plain text are read in pieces that end at white space. Chosen by this project."""

# Maximum fraction of control characters other than white space in UTF-8 text. Chosen by this project.
_MOST_CONTROLS = 0.2
_HEAD = 1 << 12  # number of bytes from which the encoding is guessed
_BUFFER = 1 << 20


def read_lines(file: BinaryIO, name: str, pieces: bool = False) -> Iterator[tuple[int, str | BadRecord]]:
    """Yield (number from 1, line with its end) of an open file, or a bad record for a line or for the rest of the file.

    Text is UTF-8, or UTF-16 or UTF-32 with a byte order mark. With `pieces`, a line longer than `LONGEST_PIECE` is
    yielded in several pieces with the same number.
    """
    limit = LONGEST_PIECE if pieces else LONGEST_LINE
    number, head = 1, b""
    line = file.readline(limit)
    wide = next((mark for mark in _MARKS if line.startswith(mark)), None)
    if wide is not None:
        file = io.BufferedReader(_Transcoded(line.removeprefix(wide), file, _MARKS[wide]), _BUFFER)
        line = file.readline(limit)
    known = wide is not None or line.startswith(codecs.BOM_UTF8)
    encoding = "utf-8" if wide is not None else "utf-8-sig"
    while line:
        rest = b""
        if len(line) == limit and not line.endswith(b"\n"):
            if not pieces:
                while line and not line.endswith(b"\n"):
                    line = file.readline(limit)
                yield (
                    number,
                    BadRecord(f"{name}:{number} is longer than {limit >> 20} MiB. Split it into several lines."),
                )
                number, line = number + 1, file.readline(limit)
                continue
            end = _end_of_piece(line)
            line, rest = line[:end], line[end:]
        if number <= 2 and not known and len(head) < _HEAD:
            head += line[:_HEAD]
            if likely := _encoding_without_mark(head):
                yield number, _not_utf8(name, number, line, f"it looks like {likely}", likely)
                return
        try:
            yield number, line.decode(encoding)
        except UnicodeDecodeError as error:
            if wide is None:
                yield number, _not_utf8(name, number, line, error.reason)
            else:
                yield (
                    number,
                    BadRecord(
                        f"{name}:{number} is corrupt {_MARKS[wide][:6]} text. Download or generate the file again."
                    ),
                )
        encoding = "utf-8"
        number += line.endswith(b"\n")
        line = rest + file.readline(limit - len(rest))


def _not_utf8(name: str, number: int, line: bytes, why: str, encoding: str = "") -> BadRecord:
    path = PurePosixPath(name)
    source, command = "" if encoding else " from its encoding", f"iconv -f {encoding or 'LATIN1'} -t UTF-8"
    if path.suffix in COMPRESSIONS:
        advice = f"Unpack the file and convert it{source}, for example with {command}"
    else:
        converted = shlex.quote(f"fixed{path.suffix}")
        advice = f"Convert the file{source}: {command} {shlex.quote(name)} > {converted}"
    return BadRecord(
        f"{name}:{number} is not UTF-8 ({why}). {advice}",
        line.decode("utf-8", "replace"),
    )


def _end_of_piece(line: bytes) -> int:
    """Return the position at which to split a line: after its last white space, else between two characters."""
    if end := max(line.rfind(b" "), line.rfind(b"\t")) + 1:
        return end
    end = len(line) - 1
    while end > len(line) - 4 and line[end] & 0xC0 == 0x80:  # inside a character of UTF-8
        end -= 1
    return end if line[end] >= 0xC0 else len(line)


_MARKS = {  # UTF-32 first: its byte order marks start with those of UTF-16.
    codecs.BOM_UTF32_LE: "UTF-32LE",
    codecs.BOM_UTF32_BE: "UTF-32BE",
    codecs.BOM_UTF16_LE: "UTF-16LE",
    codecs.BOM_UTF16_BE: "UTF-16BE",
}


class _Transcoded(io.RawIOBase):
    """The text after a byte order mark, converted to UTF-8; `first` is the part that was already read."""

    def __init__(self, first: bytes, file: BinaryIO, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        self._ready = b""
        self._ended = False
        self._take(first)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._ended:
            block = self._file.readline(_BUFFER)  # returns without waiting for more input from a terminal
            self._ended = not block
            self._take(block)
        size = min(len(self._ready), len(buffer))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size

    def _take(self, block: bytes) -> None:
        try:
            # A lone surrogate becomes invalid UTF-8, so that its line is rejected.
            self._ready = self._decoder.decode(block, final=not block).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            self._ready, self._ended = b"\xff", True


def _encoding_without_mark(head: bytes) -> str | None:
    """Return the likely UTF-16 or UTF-32 encoding of a file whose first bytes include NUL, or None."""
    if b"\0" not in head:
        return None
    controls = sum(byte < 32 and byte not in b"\t\n\f\r" for byte in head)
    if controls < _MOST_CONTROLS * len(head) and "\ufffd" not in head.decode("utf-8", "replace"):
        return None
    texts = {name: head.decode(name, "ignore") for name in _MARKS.values()}
    likely = {
        name: text for name, text in texts.items() if text and all(c.isprintable() or c in "\t\n\f\r" for c in text)
    }
    return max(likely, key=lambda name: sum(c < "\x80" for c in likely[name]), default=None)
