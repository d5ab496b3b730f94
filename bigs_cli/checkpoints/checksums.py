"""The seal of a checkpoint: size and SHA-256 of each file of its items, written before the checkpoint has its name.

Orbax notices a file that is gone, but not every flipped bit. A checkpoint folder with a step's name and a seal was
whole, and what is wrong with it later can be told without reading it as a model. What lies beside the items is not
sealed: Orbax writes there later, and needs none of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bigs_cli.core.files import parse_json, sha256, write_json

SEAL = "seal.json"


def seal(folder: Path, score: float | None) -> None:
    """Write the seal of the items in `folder`, with the checkpoint's `score`, and have it all reach the disk."""
    files = {}
    for path in sorted(path for path in folder.glob("*/**/*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # Orbax does not: after a power cut a renamed folder could hold empty files.
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    write_json(folder / SEAL, {"score": score, "files": files})


def score(folder: Path) -> float | None:
    """Return the score that the checkpoint in `folder` was saved with; None if it has none, or no seal."""
    try:
        value = parse_json((folder / SEAL).read_text(encoding="utf-8"))["score"]
        return float(value) if isinstance(value, int | float) else None
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def damage(folder: Path, item: str = "") -> str | None:
    """Say what is wrong with the checkpoint in `folder`, or with its `item` alone; None: it is as it was written."""
    place = folder / SEAL
    if not place.exists():
        return f"it has no {SEAL}, so it was not written to its end"
    try:
        files: dict[str, dict[str, Any]] = parse_json(place.read_text(encoding="utf-8"))["files"]
        for name, expected in files.items():
            if not name.startswith(item):
                continue
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if (size := path.stat().st_size) != expected["bytes"]:
                return f"{name} has {size} bytes instead of {expected['bytes']}"
            if sha256(path) != expected["sha256"]:
                return f"{name} was altered: its SHA-256 is not the one in {SEAL}"
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{SEAL} is damaged"
    return None


def steps(folder: Path) -> list[int]:
    """Return the steps with a checkpoint in `folder`, ascending; an absent folder has none."""
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isascii() and entry.name.isdigit())
