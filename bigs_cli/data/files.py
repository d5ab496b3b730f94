"""Text files on this machine or at any URL that fsspec supports, decompressed as they are read.

Files at `gs://`, `s3://`, `hf://`, `https://` and the like are read block by block; no copy is kept.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from bigs_cli.core.errors import BigsError, RequestError, first_line, not_utf8
from bigs_cli.core.folders import check_link, list_files
from bigs_cli.core.hub import set_timeouts, silence_client
from bigs_cli.core.paths import is_url
from bigs_cli.core.remote import remote_errors
from bigs_cli.data.documents import BadRecord
from bigs_cli.data.lines import COMPRESSIONS, read_lines

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_BUFFER = 1 << 20


def _unzstd(file: BinaryIO) -> BinaryIO:
    import pyarrow as pa

    stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
    return cast(BinaryIO, io.BufferedReader(cast(Any, stream), _BUFFER))


_DECOMPRESS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _unzstd,
}

# Errors of the libraries for corrupt or truncated archives; bz2 and pyarrow raise a bare OSError.
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


@dataclass(frozen=True)
class TextFile:
    """One file; messages use `name`."""

    system: AbstractFileSystem
    path: str
    name: str

    @property
    def suffix(self) -> str:
        """The suffix that states the file format, in lower case, without the suffix of a compression; may be empty."""
        return PurePosixPath(self.path.lower().removesuffix(self.compression)).suffix

    @property
    def compression(self) -> str:
        """The suffix of the compression; empty if there is none."""
        ending = PurePosixPath(self.path.lower()).suffix
        return ending if ending in COMPRESSIONS else ""

    def size(self) -> int:
        """Return the size in bytes, before decompression."""
        return int(self.system.size(self.path) or 0)

    def open(self) -> BinaryIO:
        """Open for reading, decompressed. An uncompressed file is seekable.

        Raises:
            OSError: it cannot be opened.
        """
        file = cast(BinaryIO, self.system.open(self.path, "rb"))
        if self.compression:
            return _DECOMPRESS[self.compression](file)
        # fsspec's own remote files have no `readline` with a limit.
        return file if hasattr(file, "raw") else io.BufferedReader(cast(Any, file), _BUFFER)

    def lines(self, pieces: bool = False) -> Iterator[tuple[int, str | BadRecord]]:
        """Yield (number from 1, line with its end), or a bad record for a line or for the rest of the file.

        With `pieces`, a line longer than `LONGEST_PIECE` is yielded in several pieces with the same number.

        Raises:
            BigsError: the connection failed.
        """
        number = 0
        try:
            with self.open() as file:
                for number, line in read_lines(file, self.name, pieces):
                    yield number, line
        except Exception as error:  # each file system has its own exceptions
            yield number + 1, self.read_error(error)

    def read_error(self, error: Exception) -> BadRecord:
        """Return the bad record for a file whose rest cannot be read.

        Raises:
            BigsError: the connection failed, not the file.
        """
        reason = first_line(error)
        if isinstance(error, _DAMAGE) or (type(error) is OSError and error.errno is None):
            return BadRecord(f"{self.name} is a corrupt or truncated archive ({reason}). Download it again.")
        strerror = getattr(error, "strerror", None) or reason
        if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
            return BadRecord(f"{self.name} cannot be read ({strerror}).")
        raise BigsError(f"The connection was lost while reading {self.name} ({strerror}). Try again later.") from error


def local_file(path: Path) -> TextFile:
    """Return the local file at a path, whose name may have any characters."""
    from fsspec.implementations.local import LocalFileSystem

    return TextFile(LocalFileSystem(), str(path.absolute()), str(path))


def find_files(source: str, say: Callable[[str], None] = lambda sentence: None) -> list[TextFile] | None:
    """Return the file at a path or URL, or all files under a folder, ordered by path; None if nothing exists there.

    A name without "://" is a local path. Hidden files and folders (".git") are skipped, and links are followed
    (`list_files`); `say` is called with a note on entries of a local folder that cannot be read.

    Raises:
        RequestError: no installed package reads such URLs, or the path is a broken link.
        BigsError: the URL cannot be reached.
    """
    protocol = source.split("://", 1)[0] if is_url(source) else "file"
    if protocol == "hf":
        silence_client()
        set_timeouts()
    try:
        with remote_errors(source):
            system, root, here = _system_of(source)
            if here is not None:
                check_link(here)
            # `isfile` and `isdir` return False for a URL that cannot be reached.
            if system.info(root)["type"] != "directory":
                if here is not None and not here.is_file():  # a pipe or device may never end
                    raise RequestError(f"{source} is a pipe or a device. Name a file, or a folder of files.")
                return _check_names([TextFile(system, root, source)])
            inside = _inside(system, root) if here is None else _inside_here(here, root, say)
    except FileNotFoundError:
        return None
    return _check_names([TextFile(system, path, f"{source.rstrip('/')}/{rest}") for path, rest in inside])


def _inside(system: AbstractFileSystem, root: str) -> list[tuple[str, str]]:
    """Return path and relative path of the files under a remote folder."""
    found = [(path, path.removeprefix(root).lstrip("/")) for path in sorted(cast(list[str], system.find(root)))]
    return [(path, rest) for path, rest in found if not any(part.startswith(".") for part in rest.split("/"))]


def _inside_here(folder: Path, root: str, say: Callable[[str], None]) -> list[tuple[str, str]]:
    """Return path and relative path of the files under a local folder, whose absolute path is `root`."""
    listing = list_files(folder)
    if listing.warning:
        say(listing.warning)
    inside = [str(path.relative_to(folder)) for path in listing.files]
    return [(f"{root.rstrip('/')}/{rest}", rest) for rest in inside]


def _system_of(source: str) -> tuple[AbstractFileSystem, str, Path | None]:
    """Return the file system of `source`, its path there and, for local files, the path as given."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    if is_url(source):
        system, root = fsspec.url_to_fs(source)
        return system, root, Path(root) if isinstance(system, LocalFileSystem) else None
    # fsspec would read "::" in a path as a chain of file systems.
    path = Path(source)
    path = path if os.path.lexists(path) else path.expanduser()
    return LocalFileSystem(), str(path.absolute()), path


def _check_names(files: list[TextFile]) -> list[TextFile]:
    """Return the files.

    Raises:
        RequestError: a name is not UTF-8, so manifests and messages cannot contain it.
    """
    for file in files:
        if (shown := not_utf8(file.name)) is not None:
            raise RequestError(f"The name of {shown} is not UTF-8. Rename the file.")
    return files
