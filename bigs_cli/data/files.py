"""Files of text, on this machine or behind any address that fsspec reaches, decompressed as they are read.

`gs://`, `s3://`, `hf://`, `https://` and the like are read where they are, block by block; nothing is kept here.
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

from bigs_cli.core.errors import BigsError, RequestError, not_utf8
from bigs_cli.core.folders import check_link, list_files
from bigs_cli.core.hub import set_timeouts, silence_client
from bigs_cli.core.paths import is_url
from bigs_cli.data.documents import BadRecord
from bigs_cli.data.lines import COMPRESSIONS, read_lines

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_BUFFER = 1 << 20
_EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3"}  # protocol → the extra of ours that installs it


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

# What the libraries raise for bytes that no compressor wrote, or that end too soon; bz2 and pyarrow: a bare OSError.
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


@dataclass(frozen=True)
class TextFile:
    """One file; `name` is what messages call it."""

    system: AbstractFileSystem
    path: str
    name: str

    @property
    def suffix(self) -> str:
        """The ending, in lower case, that tells the kind of text, before that of a compression; "" if there is none."""
        return PurePosixPath(self.path.lower().removesuffix(self.compression)).suffix

    @property
    def compression(self) -> str:
        """The ending that tells how it is compressed, or ""."""
        ending = PurePosixPath(self.path.lower()).suffix
        return ending if ending in COMPRESSIONS else ""

    def size(self) -> int:
        """Return the size in bytes, compressed if it is."""
        return int(self.system.size(self.path) or 0)

    def open(self) -> BinaryIO:
        """Open for reading, decompressed. A file that is not compressed can be read at any place.

        Raises:
            OSError: it cannot be opened.
        """
        file = cast(BinaryIO, self.system.open(self.path, "rb"))
        if self.compression:
            return _DECOMPRESS[self.compression](file)
        # fsspec's own files on other machines cannot bound the length of a line.
        return file if hasattr(file, "raw") else io.BufferedReader(cast(Any, file), _BUFFER)

    def lines(self, pieces: bool = False) -> Iterator[tuple[int, str | BadRecord]]:
        """Yield (number from 1, line with its end), or what is wrong with a line or with all that would follow.

        With `pieces`, a line longer than `LONGEST_PIECE` comes in several pieces, all with its number.

        Raises:
            BigsError: the place it lies in broke off.
        """
        number = 0
        try:
            with self.open() as file:
                for number, line in read_lines(file, self.name, pieces):
                    yield number, line
        except Exception as error:  # Each system has errors of its own.
            yield number + 1, self.read_error(error)

    def read_error(self, error: Exception) -> BadRecord:
        """Return what is to be said of a file that cannot be read on.

        Raises:
            BigsError: it is not the file that is at fault, but the place it lies in.
        """
        reason = _reason(error)
        if isinstance(error, _DAMAGE) or (type(error) is OSError and error.errno is None):
            return BadRecord(f"{self.name} is a damaged or truncated archive ({reason}). Fetch it again.")
        strerror = getattr(error, "strerror", None) or reason
        if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
            return BadRecord(f"{self.name} cannot be read ({strerror}).")
        raise BigsError(f"Reading {self.name} broke off ({strerror}). Try again later.") from error


def local_file(path: Path) -> TextFile:
    """Return the file at a path of this machine, whatever characters are in its name."""
    from fsspec.implementations.local import LocalFileSystem

    return TextFile(LocalFileSystem(), str(path.absolute()), str(path))


def find_files(source: str, say: Callable[[str], None] = lambda sentence: None) -> list[TextFile] | None:
    """Return the file at a path or address, or all files under a folder, ordered by path; None if nothing is there.

    What has no "://" is a path here, whatever else its name holds. Hidden files and folders (".git") are passed over,
    links are followed (`list_files`); `say` is told of entries of a folder here that cannot be read.

    Raises:
        RequestError: no installed package reads such addresses, or the path is a link that leads nowhere.
        BigsError: the place cannot be reached.
    """
    protocol = source.split("://", 1)[0] if is_url(source) else "file"
    if protocol == "hf":
        silence_client()
        set_timeouts()
    try:
        system, root, here = _system_of(source)
        if here is not None:
            check_link(here)
        # `isfile` and `isdir` would take a place that cannot be reached for an empty one.
        if system.info(root)["type"] != "directory":
            if here is not None and not here.is_file():  # a pipe or device may never end
                raise RequestError(f"{source} is a pipe or a device. Name a file, or a folder of files.")
            return _named([TextFile(system, root, source)])
        inside = _inside(system, root) if here is None else _inside_here(here, root, say)
    except FileNotFoundError:
        return None
    except RequestError:
        raise
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        install = f"pip install 'bigs[{extra}]'" if extra else str(error)
        raise RequestError(f"{source} takes a package that is not installed ({install}).") from None
    except ValueError as error:
        raise RequestError(f"{source} is no address that can be read ({error}).") from None
    except Exception as error:  # Each system has errors of its own.
        raise BigsError(f"{source} cannot be reached ({_reason(error)}). Check the address and the network.") from error
    return _named([TextFile(system, path, f"{source.rstrip('/')}/{rest}") for path, rest in inside])


def _inside(system: AbstractFileSystem, root: str) -> list[tuple[str, str]]:
    """Return path and relative path of the files under a folder of another machine."""
    found = [(path, path.removeprefix(root).lstrip("/")) for path in sorted(cast(list[str], system.find(root)))]
    return [(path, rest) for path, rest in found if not any(part.startswith(".") for part in rest.split("/"))]


def _inside_here(folder: Path, root: str, say: Callable[[str], None]) -> list[tuple[str, str]]:
    """Return path and relative path of the files under a folder of this machine, which `root` is the whole path of."""
    listing = list_files(folder)
    if listing.warning:
        say(listing.warning)
    inside = [str(path.relative_to(folder)) for path in listing.files]
    return [(f"{root.rstrip('/')}/{rest}", rest) for rest in inside]


def _system_of(source: str) -> tuple[AbstractFileSystem, str, Path | None]:
    """Return the file system that `source` lies in, its path there, and, on this machine, its path as it is named."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    if is_url(source):
        system, root = fsspec.url_to_fs(source)
        return system, root, Path(root) if isinstance(system, LocalFileSystem) else None
    # Of a path, fsspec would chain file systems at "::".
    path = Path(source)
    path = path if os.path.lexists(path) else path.expanduser()
    return LocalFileSystem(), str(path.absolute()), path


def _named(files: list[TextFile]) -> list[TextFile]:
    """Return the files.

    Raises:
        RequestError: a name is no UTF-8, which manifests and messages are.
    """
    for file in files:
        if (shown := not_utf8(file.name)) is not None:
            raise RequestError(f"The name of {shown} is not UTF-8. Rename the file.")
    return files


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
