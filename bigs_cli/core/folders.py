"""Listing all files under a folder. Links are followed, each folder is visited once, and broken links are reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bigs_cli.core.errors import RequestError, listed

_BROKEN = "a broken link"
_CYCLE = "a link to a parent folder"
_MAX_NAMES = 5  # in the warning


@dataclass
class Listing:
    """The files under `folder`."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    """Every file once, sorted by path."""
    left_out: dict[Path, str] = field(default_factory=dict)
    """Entries that cannot be read → the reason."""

    @property
    def warning(self) -> str | None:
        """A sentence that names the entries left out; None if there are none."""
        if not self.left_out:
            return None
        names = listed([f"{path} ({why})" for path, why in self.left_out.items()], _MAX_NAMES)
        count = len(self.left_out)
        return f"{self.folder} has {count} {'entry' if count == 1 else 'entries'} that cannot be read: {names}."


def list_files(folder: Path) -> Listing:
    """Return all files at any depth under `folder`, except hidden ones and those in hidden folders (".git").

    A file or folder with several links is listed once: under its real path if that is under `folder`, else under the
    path of the first link. Pipes and devices are not listed.
    """
    listing = Listing(folder)
    entered: set[str] = set()
    files: dict[str, Path] = {}  # real path → path
    file_links: list[Path] = []
    pending = [folder]  # The folder itself first, then links to folders, so that files keep their real paths.
    while pending:
        current = pending.pop(0)
        for path in sorted(_walk(current, entered, listing.left_out)):
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
    """Check that `path` is not a broken link.

    Raises:
        RequestError: it is.
    """
    if path.is_symlink() and not path.exists():
        raise RequestError(f"{path} is a broken link to {path.readlink()}. Repair the link, or remove it.")


def broken_links(folder: Path) -> list[Path]:
    """Return the broken links directly in `folder`."""
    return sorted(path for path in folder.glob("*") if path.is_symlink() and not path.exists())


def _walk(folder: Path, entered: set[str], left_out: dict[Path, str]) -> Iterator[Path]:
    """Yield the regular files and all links at any depth under `folder`; nothing if the folder is in `entered`."""
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
