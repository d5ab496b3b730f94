"""Local copies of what is at URLs: which folder is the copy of which URL, so that messages and records name the URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_copies: dict[str, str] = {}
"""The absolute path of each copy in use → its URL."""


def register(copy: Path, url: str) -> None:
    """Record that `copy` is, or will be, the copy of what is at `url`."""
    _copies[str(copy.absolute())] = url.rstrip("/")


@contextmanager
def copy_of(url: str, copy: Path) -> Iterator[None]:
    """Within this context, `copy` is the copy of what is, or will be, at `url`."""
    register(copy, url)
    try:
        yield
    finally:
        del _copies[str(copy.absolute())]


def place_of(path: Path) -> str:
    """Return how users name a file or folder: by its URL if it is a copy or in one, else by its path."""
    for copy, url in _copies.items():
        if path.absolute().is_relative_to(copy):
            inside = path.absolute().relative_to(copy).as_posix()
            return url if inside == "." else f"{url}/{inside}"
    return str(path)


def local_of(url: str) -> Path | None:
    """Return the path of what is at a URL if that is in a copy, else None."""
    for copy, of in _copies.items():
        if url.rstrip("/") == of or url.startswith(f"{of}/"):
            return Path(copy) / url.rstrip("/").removeprefix(of).lstrip("/")
    return None


def in_words(text: str) -> str:
    """Return a message with the URLs of copies in place of their paths."""
    for copy, url in _copies.items():
        text = text.replace(copy, url)
    return text
