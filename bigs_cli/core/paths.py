"""Distinguishing URLs from local paths, and passing paths to libraries that interpret some characters in them."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bigs_cli.core.errors import RequestError

# gs://bucket/file, and the chains of fsspec: zip://a.txt::s3://bucket/file.zip, simplecache::s3://bucket/file
_URL = re.compile(r"([a-z][\w+.-]*::)*[a-z][\w+.-]*://", re.IGNORECASE)
_COLLAPSED = re.compile(r"(?P<scheme>[a-z][\w+.-]+:)/(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_REMEDIES = {
    "file": "Write the path without file://.",
    "hf": "To use a model on the hub, write its id, OWNER/NAME.",
    "https": "To use a model on the hub, write its id, OWNER/NAME; download other files first.",
}
_PASSWORD = re.compile(r"([a-z][\w+.-]*://)[^/@]*:[^/@]*@", re.IGNORECASE)
_READ_ONLY = ("file", "hf", "http", "https")
# Characters without a meaning in glob patterns, URLs, fsspec and TensorStore. etils.epath reads /gs/… as gs://….
_PLAIN = re.compile(r"(?!/(az|gs|hf|s3)(/|$))[\w/.,+=@ -]*")


def is_url(name: str) -> bool:
    """Return whether `name` is a URL such as ``s3://bucket/file`` and not a local path."""
    return _URL.match(name) is not None


def check_local(name: str | Path, prefix: str = "") -> None:
    """Check that `name` is not a URL; `prefix` begins the message.

    Raises:
        RequestError: it is a URL. The message quotes it as it was written.
    """
    if (problem := url_problem(name)) is not None:
        raise RequestError(f"{prefix}{problem}")


def check_writable_url(name: str) -> None:
    """Check that `name` is a local path, or a URL to which files can be written.

    Raises:
        RequestError: it is another URL.
    """
    check_readable_url(name if _PASSWORD.match(name) else "")
    if is_url(name) and (scheme_of(name) in _READ_ONLY or "::" in name):
        raise RequestError(
            f"{name} is a URL to which nothing can be written. Name a local path or a bucket (s3://, gs://)."
        )


def url_problem(name: str | Path) -> str | None:
    """Return an error message if `name` is a URL, else None."""
    if (url := url_of(name)) is None:
        return None
    remedy = _REMEDIES.get(scheme_of(url), "Use a local path, and copy the data with another tool.")
    return f"{url} is a URL, but only local files and folders can be used here. {remedy}"


def url_of(name: str | Path) -> str | None:
    """Return `name` if it is a URL, else None.

    `Path` turns ``s3://bucket`` into ``s3:/bucket``, which counts as a URL unless there is a folder ``s3:``.
    """
    url = str(name)
    collapsed = _COLLAPSED.fullmatch(url) if isinstance(name, Path) else None
    if collapsed and not Path(collapsed["scheme"]).is_dir():
        url = f"{collapsed['scheme']}//{collapsed['rest']}"
    return url if is_url(url) else None


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in lower case; of a chain, the first."""
    return url.partition(":")[0].lower()


def unreadable_url_problem(name: str) -> str | None:
    """Return an error message if `name` is a URL from which no copy can be made, or with a password, else None."""
    if _PASSWORD.match(name):
        shown = _PASSWORD.sub(r"\1…@", name)
        return f"{shown} has a password, which would be stored. Configure fsspec with it instead."
    if is_url(name) and (scheme_of(name) == "file" or "::" in name):
        remedy = _REMEDIES.get(scheme_of(name), "Name a single file or folder, without ::.")
        return f"{name} is a URL that cannot be used here. {remedy}"
    return None


def check_readable_url(name: str) -> None:
    """Check that `name` is not a URL from which no copy can be made.

    Raises:
        RequestError: it is one.
    """
    if (problem := unreadable_url_problem(name)) is not None:
        raise RequestError(problem)


@contextlib.contextmanager
def plain_path(path: Path) -> Iterator[Path]:
    """Yield an absolute path to `path` for libraries that interpret some paths as patterns or URLs.

    It is `path` itself, or, if that contains characters such as ``[``, a path through a symbolic link in the temporary
    folder. `path` need not exist yet. OSErrors name `path` itself.

    Raises:
        RequestError: a link is needed and there is no usable temporary folder.
    """
    absolute = path.absolute()
    if _is_plain(absolute):
        yield absolute
        return
    candidates = [folder for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp") if _is_plain(Path(folder))]
    folder = next((folder for folder in candidates if os.access(folder, os.W_OK | os.X_OK)), None)
    if folder is None:
        raise RequestError(
            f"The path {path} has special characters that some libraries interpret, and there is no temporary folder "
            "for a link to it. Set $TMPDIR to a writable folder whose path has no special characters."
        )
    with tempfile.TemporaryDirectory(prefix="bigs-", dir=folder) as parent:
        link = Path(parent) / "linked"
        link.symlink_to(absolute)
        try:
            yield link
        except OSError as error:
            if str(error.filename).startswith(str(link)):
                error.filename = f"{absolute}{str(error.filename).removeprefix(str(link))}"
            raise


def _is_plain(path: Path) -> bool:
    return _PLAIN.fullmatch(str(path)) is not None
