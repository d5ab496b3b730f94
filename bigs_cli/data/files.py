"""Files of text, on this machine or behind any address that fsspec reaches, decompressed as they are read.

`gs://`, `s3://`, `hf://`, `https://` and the like are read where they are, block by block; nothing is kept here.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shlex
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from bigs_cli.core.errors import BigsError, RequestError, not_utf8
from bigs_cli.core.hub_client import hush_client, limit_waiting
from bigs_cli.data.documents import Bad

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

LONGEST_LINE = 1 << 26
"""Bytes. A longer line is not text that anybody wrote, and reading it whole would take memory without bound."""

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
COMPRESSIONS = tuple(_DECOMPRESS)

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
        return ending if ending in _DECOMPRESS else ""

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

    def lines(self) -> Iterator[tuple[int, str | Bad]]:
        """Yield (number from 1, line with its end), or what is wrong with a line or with all that would follow.

        Raises:
            BigsError: the place it lies in broke off.
        """
        number = 0
        try:
            with self.open() as file:
                for number, line in read_lines(file, self.name):
                    yield number, line
        except Exception as error:  # Each system has errors of its own.
            yield number + 1, self.unreadable(error)

    def unreadable(self, error: Exception) -> Bad:
        """Return what is to be said of a file that cannot be read on.

        Raises:
            BigsError: it is not the file that is at fault, but the place it lies in.
        """
        reason = _reason(error)
        if isinstance(error, _DAMAGE) or (type(error) is OSError and error.errno is None):
            return Bad(f"{self.name} is a damaged or truncated archive ({reason}). Fetch it again.")
        strerror = getattr(error, "strerror", None) or reason
        if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
            return Bad(f"{self.name} cannot be read ({strerror}).")
        raise BigsError(
            f"Reading {self.name} broke off ({strerror}). Try again later; bigs tokenize then goes on with --resume."
        ) from error


def read_lines(file: BinaryIO, name: str) -> Iterator[tuple[int, str | Bad]]:
    """Yield (number from 1, line with its end) of an open file, or what is wrong with a line."""
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST_LINE)
            yield number, Bad(f"{name}:{number} is longer than {LONGEST_LINE >> 20} MiB.")
            continue
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            yield number, _not_utf8(name, number, line, error)


def local_file(path: Path) -> TextFile:
    """Return the file at a path of this machine, whatever characters are in its name."""
    from fsspec.implementations.local import LocalFileSystem

    return TextFile(LocalFileSystem(), str(path.absolute()), str(path))


def find_files(source: str) -> list[TextFile] | None:
    """Return the file at a path or address, or all files under a folder, ordered by path; None if nothing is there.

    Hidden files and folders (".git") are passed over.

    Raises:
        RequestError: no installed package reads such addresses.
        BigsError: the place cannot be reached.
    """
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    protocol = source.split("://", 1)[0] if "://" in source else "file"
    if protocol == "hf":
        hush_client()
        limit_waiting()
    try:
        # What is here is no address, even if its name has the "::" that chains addresses.
        here = "://" not in source and Path(source).exists()
        system, root = (LocalFileSystem(), str(Path(source).absolute())) if here else fsspec.url_to_fs(source)
        # `isfile` and `isdir` would take a place that cannot be reached for an empty one.
        if system.info(root)["type"] != "directory":
            if not _is_regular(system, root):
                raise RequestError(f"{source} is a pipe or a device. Name a file, or a folder of files.")
            return _named([TextFile(system, root, source)])
        found = [path for path in cast(list[str], system.find(root)) if _is_regular(system, path)]
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
    inside = [(path, path.removeprefix(root).lstrip("/")) for path in sorted(found)]
    return _named(
        [
            TextFile(system, path, f"{source.rstrip('/')}/{rest}")
            for path, rest in inside
            if not any(part.startswith(".") for part in rest.split("/"))
        ]
    )


def _is_regular(system: AbstractFileSystem, path: str) -> bool:
    """Whether a path is a file, or a link to one: a pipe or device may never end. On other machines there are none."""
    from fsspec.implementations.local import LocalFileSystem

    return not isinstance(system, LocalFileSystem) or Path(path).is_file()


def _named(files: list[TextFile]) -> list[TextFile]:
    """Return the files.

    Raises:
        RequestError: a name is no UTF-8, which manifests and messages are.
    """
    for file in files:
        if (shown := not_utf8(file.name)) is not None:
            raise RequestError(f"The name of {shown} is not UTF-8. Rename the file.")
    return files


def _not_utf8(name: str, number: int, line: bytes, error: UnicodeDecodeError) -> Bad:
    path = PurePosixPath(name)
    if path.suffix in _DECOMPRESS:
        how = "Unpack the file and convert it from what it is, for example with iconv -f LATIN1 -t UTF-8"
    else:
        made = shlex.quote(f"fixed{path.suffix}")
        how = f"Convert the file from what it is: iconv -f LATIN1 -t UTF-8 {shlex.quote(name)} > {made}"
    return Bad(
        f"{name}:{number} is not UTF-8 ({error.reason}). {how}",
        line.decode("utf-8", "replace"),
    )


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
