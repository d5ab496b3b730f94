"""The course of a run as JSON lines: the record every plot and comparison is made from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from bigs_cli.core.files import replacing


class MetricsLog:
    """Appends to metrics.jsonl, one object a line, each with the step it belongs to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, step: int, **values: Any) -> None:
        """Append {"step": step, …}; a number that is not finite is written as null."""
        entry = {"step": step, **{name: _plain(value) for name, value in values.items()}}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def drop_after(self, step: int) -> None:
        """Remove entries of later steps: a resumed run writes them again."""
        kept = [entry for entry in read_metrics(self.path) if entry["step"] <= step]
        with replacing(self.path, "w") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in kept)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a metrics.jsonl; a last line cut off by a crash is left out."""
    entries = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:
                break
    return entries


def _plain(value: Any) -> Any:
    if isinstance(value, (str, int, bool)) or value is None:
        return value
    number = float(value)
    return number if math.isfinite(number) else None
