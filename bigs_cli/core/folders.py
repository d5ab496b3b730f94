"""All files under a folder, links followed: each real folder is entered once, and what cannot be followed is named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bigs_cli.core.errors import RequestError, listed

_BROKEN = "a link that leads nowhere"
_CYCLE = "a link to a folder that it lies in"
_NAMED = 5  # entries that a sentence names


@dataclass
class Listing:
    """What `list_files` found under `folder`."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    """Every file once, ordered by path as text."""
    left_out: dict[Path, str] = field(default_factory=dict)
    """Entries that cannot be followed or read, each with the reason."""

    @property
    def warning(self) -> str | None:
        """A sentence that names what was left out; None if nothing was."""
        if not self.left_out:
            return None
        names = listed([f"{path} ({why})" for path, why in self.left_out.items()], _NAMED)
        count = len(self.left_out)
        return f"{self.folder} holds {count} {'entry' if count == 1 else 'entries'} that cannot be read: {names}."


def list_files(folder: Path) -> Listing:
    """Return all files at any depth under `folder`. Hidden files and folders (".git") are passed over.

    A folder or file that several links lead to is listed once, under its own path if that is under `folder` too, else
    under that of the first link. Pipes and devices are not files.
    """
    listing = Listing(folder)
    entered: set[str] = set()
    files: dict[str, Path] = {}  # real path → path
    file_links: list[Path] = []
    pending = [folder]  # the folder itself, then links to folders: what lies under `folder` keeps its own path
    while pending:
        place = pending.pop(0)
        for path in sorted(_walk(place, entered, listing.left_out)):
            if not path.is_symlink():
                files[os.path.realpath(path)] = path
            elif path.is_dir():
                pending.append(path)
            else:
                file_links.append(path)
    for path in sorted(file_links):
        if path.is_file():
            files.setdefault(os.path.realpath(path), path)
        elif not path.exists():
            listing.left_out[path] = _BROKEN
    listing.files = sorted(files.values(), key=str)
    return listing


def check_link(path: Path) -> None:
    """Refuse a path that is a link to nothing, rather than take it for a file that was never there.

    Raises:
        RequestError: it is one.
    """
    if path.is_symlink() and not path.exists():
        raise RequestError(f"{path} is a link that leads nowhere ({path.readlink()}). Mend the link, or remove it.")


def broken_links(folder: Path) -> list[Path]:
    """Return the links in `folder` itself that lead nowhere."""
    return sorted(path for path in folder.glob("*") if path.is_symlink() and not path.exists())


def _walk(folder: Path, entered: set[str], left_out: dict[Path, str]) -> Iterator[Path]:
    """Yield the regular files and all links at any depth under `folder`, unless it was `entered` before."""
    real = os.path.realpath(folder)
    if real in entered:
        return
    if entered and Path(os.path.realpath(folder.parent)).is_relative_to(real):
        left_out[folder] = _CYCLE
        return
    entered.add(real)
    try:
        with os.scandir(folder) as scanned:
            entries = [entry for entry in scanned if not entry.name.startswith(".")]
    except OSError as error:
        left_out[folder] = error.strerror or str(error)
        return
    for entry in entries:
        if entry.is_symlink() or entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), entered, left_out)
