"""Local copies of what is at URLs: which folder is the copy of which URL, so that messages and records name the URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_copies: dict[str, str] = {}
"""The absolute path of each copy → its URL."""
_working: set[str] = set()
"""The copies that are ahead of what is at their URLs."""


def register(copy: Path, url: str) -> None:
    """Record that `copy` is the copy of what is at `url`."""
    _copies[str(copy.absolute())] = url.rstrip("/")


@contextmanager
def copy_of(url: str, copy: Path) -> Iterator[None]:
    """Within this context, `copy` is written and is, or will be, uploaded to `url`."""
    register(copy, url)
    _working.add(str(copy.absolute()))
    try:
        yield
    finally:
        _working.remove(str(copy.absolute()))
        del _copies[str(copy.absolute())]


def place_of(path: Path) -> str:
    """Return how users name a file or folder: by its URL if it is a copy or in one, else by its path."""
    for copy, url in _copies.items():
        if path.absolute().is_relative_to(copy):
            inside = path.absolute().relative_to(copy).as_posix()
            return url if inside == "." else f"{url}/{inside}"
    return str(path)


def local_of(url: str) -> Path | None:
    """Return the path of what is, or will be, at a URL if it is in a copy that is being written, else None."""
    for copy in _working:
        of = _copies[copy]
        if url.rstrip("/") == of or url.startswith(f"{of}/"):
            return Path(copy) / url.rstrip("/").removeprefix(of).lstrip("/")
    return None


def in_words(text: str) -> str:
    """Return a message with the URLs of copies in place of their paths."""
    for copy, url in _copies.items():
        text = text.replace(copy, url)
    return text
