"""The texts read so far, for the removal of duplicates. Their digests are in a database on disk, to bound memory."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from bigs_cli.data.shard_writer import CorruptTemporaryFilesError
from bigs_cli.data.sources import Cursor


class TextsSeen:
    """Digests of texts, each with the position of its first occurrence. Only saved digests outlive the process."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self._base = base

    def add(self, digest: bytes, place: Cursor) -> bool:
        """Add the digest of a text; return whether it is new.

        Raises:
            sqlite3.OperationalError: the disk failed; see `disk_error`.
        """
        row = (digest, place.part, place.record)
        return self._base.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", row).rowcount == 1

    def save(self) -> None:
        """Write the added digests to disk.

        Raises:
            sqlite3.OperationalError: the disk failed; see `disk_error`.
        """
        self._base.commit()


@contextlib.contextmanager
def texts_seen(path: Path, place: Cursor) -> Iterator[TextsSeen]:
    """Open or create the database, and delete texts that occurred after `place`.

    Raises:
        CorruptTemporaryFilesError: the file is corrupt. sqlite3.OperationalError: the disk failed; see `disk_error`.
    """
    try:
        with contextlib.closing(sqlite3.connect(path)) as base:
            base.execute("CREATE TABLE IF NOT EXISTS seen (digest BLOB PRIMARY KEY, part, record) WITHOUT ROWID")
            base.execute("DELETE FROM seen WHERE (part, record) > (?, ?)", (place.part, place.record))
            yield TextsSeen(base)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise CorruptTemporaryFilesError(path) from error


def disk_error(error: Exception) -> Exception:
    """Return the OSError for a disk error that SQLite reports only as text; return any other error unchanged."""
    number = {"database or disk is full": errno.ENOSPC, "disk I/O error": errno.EIO}.get(str(error))
    return error if number is None else OSError(number, os.strerror(number))
