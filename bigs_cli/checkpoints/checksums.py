"""Checksums of a checkpoint: size and SHA-256 of each file of its items, written before the folder gets its final name.

A folder with checksums is a complete checkpoint. They also reveal later corruption, such as flipped bits, which Orbax
does not always detect, without loading the checkpoint. Files outside the items have no checksums: Orbax writes them
later and does not need them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bigs_cli.core.files import parse_json, sha256, write_json

CHECKSUMS = "seal.json"


def write_checksums(folder: Path, score: float | None) -> None:
    """Write the checksums of the items in `folder` and the `score` of the checkpoint, and flush all files to disk."""
    files = {}
    for path in sorted(path for path in folder.glob("*/**/*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # Orbax does not flush, so files could be empty after a power failure.
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    write_json(folder / CHECKSUMS, {"score": score, "files": files})


def read_score(folder: Path) -> float | None:
    """Return the score of the checkpoint in `folder`; None if it has no score or no checksums."""
    try:
        value = parse_json((folder / CHECKSUMS).read_text(encoding="utf-8"))["score"]
        return float(value) if isinstance(value, int | float) else None
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def find_corruption(folder: Path, item: str = "") -> str | None:
    """Return the first problem of the checkpoint in `folder`, or of its `item` only; None if it is valid."""
    checksums = folder / CHECKSUMS
    if not checksums.exists():
        return f"it has no {CHECKSUMS}, so it is incomplete"
    try:
        files: dict[str, dict[str, Any]] = parse_json(checksums.read_text(encoding="utf-8"))["files"]
        for name, expected in files.items():
            if not name.startswith(item):
                continue
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if (size := path.stat().st_size) != expected["bytes"]:
                return f"{name} has {size} bytes instead of {expected['bytes']}"
            if sha256(path) != expected["sha256"]:
                return f"{name} was modified: its SHA-256 differs from that in {CHECKSUMS}"
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{CHECKSUMS} is corrupt"
    return None


def steps(folder: Path) -> list[int]:
    """Return the sorted steps with a checkpoint in `folder`; none if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isascii() and entry.name.isdigit())
