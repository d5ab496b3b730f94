"""The texts met so far, so that none is taken twice: in a database on the disk, as memory must not grow with them."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from bigs_cli.data.shard_writer import DamagedDraftError
from bigs_cli.data.sources import Place


class TextsSeen:
    """Digests of texts, each with the place where it was met. Only what was saved outlives the process."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self._base = base

    def add(self, digest: bytes, place: Place) -> bool:
        """Remember a text by its digest; return whether it is new.

        Raises:
            sqlite3.OperationalError: the disk failed; see `disk_error`.
        """
        row = (digest, place.part, place.record)
        return self._base.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", row).rowcount == 1

    def save(self) -> None:
        """Bring to the disk what was added.

        Raises:
            sqlite3.OperationalError: the disk failed; see `disk_error`.
        """
        self._base.commit()


@contextlib.contextmanager
def texts_seen(path: Path, place: Place) -> Iterator[TextsSeen]:
    """Open or make the file of the texts seen, and forget what was met after `place`.

    Raises:
        DamagedDraftError: the file is no such database any more.
        sqlite3.OperationalError: the disk failed; see `disk_error`.
    """
    try:
        with contextlib.closing(sqlite3.connect(path)) as base:
            base.execute("CREATE TABLE IF NOT EXISTS seen (digest BLOB PRIMARY KEY, part, record) WITHOUT ROWID")
            base.execute("DELETE FROM seen WHERE (part, record) > (?, ?)", (place.part, place.record))
            yield TextsSeen(base)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise DamagedDraftError(path) from error


def disk_error(error: Exception) -> Exception:
    """Return the system's error that SQLite, which has no numbers of it, words on its own; any other as it is."""
    number = {"database or disk is full": errno.ENOSPC, "disk I/O error": errno.EIO}.get(str(error))
    return error if number is None else OSError(number, os.strerror(number))
