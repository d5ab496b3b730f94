"""Paths and addresses: which of the two a name is, and paths that libraries would not take literally."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bigs_cli.core.errors import RequestError

# gs://bucket/file, and what fsspec chains: zip://a.txt::s3://bucket/file.zip, simplecache::s3://bucket/file
_ADDRESS = re.compile(r"([a-z][\w+.-]*::)*[a-z][\w+.-]*://", re.IGNORECASE)
_COLLAPSED = re.compile(r"(?P<scheme>[a-z][\w+.-]+:)/(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_INSTEAD = {
    "file": "Write the path without file://.",
    "hf": "A model on the hub is named by its id: OWNER/NAME.",
    "https": "A model on the hub is named by its id, OWNER/NAME; download anything else first.",
}
# Characters that neither glob patterns, URLs, fsspec nor TensorStore give a meaning. etils.epath takes /gs/… for gs://….
_PLAIN = re.compile(r"(?!/(az|gs|hf|s3)(/|$))[\w/.,+=@ -]*")


def is_address(name: str) -> bool:
    """Return whether `name` is an address such as ``s3://bucket/file``, and not a path on this machine."""
    return _ADDRESS.match(name) is not None


def refuse_address(name: str | Path, what: str = "") -> None:
    """Refuse an address where a path on this machine, or a name, is needed; `what` opens the sentence.

    Raises:
        RequestError: it is an address. The sentence quotes it as it was written.
    """
    if (problem := address_problem(name)) is not None:
        raise RequestError(f"{what}{problem}")


def address_problem(name: str | Path) -> str | None:
    """Return the sentences with which `name` is refused where an address does not do; None if it is none.

    `Path` turns ``s3://bucket`` into ``s3:/bucket``: that is an address too, unless there is a folder ``s3:``.
    """
    address = str(name)
    collapsed = _COLLAPSED.fullmatch(address) if isinstance(name, Path) else None
    if collapsed and not Path(collapsed["scheme"]).is_dir():
        address = f"{collapsed['scheme']}//{collapsed['rest']}"
    if not is_address(address):
        return None
    scheme = address.partition(":")[0].lower()
    instead = _INSTEAD.get(scheme, "Name one here, and copy to it or from it with another tool.")
    return f"{address} is an address, and what is needed is a file or folder on this machine. {instead}"


@contextlib.contextmanager
def plain_path(path: Path) -> Iterator[Path]:
    """Yield an absolute path to `path` for libraries that take some paths for patterns or addresses.

    It is the path itself, or, if there are characters such as ``[`` in it, one through a symbolic link in the folder
    for temporary files. Nothing need exist at `path` yet. Errors of the system name the path itself.

    Raises:
        RequestError: a link is needed, and there is no folder to put it into.
    """
    whole = path.absolute()
    if _is_plain(whole):
        yield whole
        return
    places = [place for place in (tempfile.gettempdir(), "/tmp", "/var/tmp") if _is_plain(Path(place))]
    place = next((place for place in places if os.access(place, os.W_OK | os.X_OK)), None)
    if place is None:
        raise RequestError(
            f"The path {path} has characters that the libraries which use it do not take literally, and there is no "
            "folder for temporary files to reach it through. Name one without such characters with $TMPDIR."
        )
    with tempfile.TemporaryDirectory(prefix="bigs-", dir=place) as holder:
        link = Path(holder) / "linked"
        link.symlink_to(whole)
        try:
            yield link
        except OSError as error:
            if str(error.filename).startswith(str(link)):
                error.filename = f"{whole}{str(error.filename).removeprefix(str(link))}"
            raise


def _is_plain(path: Path) -> bool:
    return _PLAIN.fullmatch(str(path)) is not None
