"""metrics.jsonl, the metrics log of a run: JSON lines, the source of every plot and comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bigs_cli.core.error_messages import read_error
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import atomic_write, parse_json, to_json


class MetricsLog:
    """Appends objects with a step and its values to metrics.jsonl; `also` is called with the same values."""

    def __init__(self, path: Path, also: Callable[[int, Mapping[str, float]], None] | None = None) -> None:
        self.path = path
        self.also = also

    def write(self, step: int, **values: Any) -> None:
        """Append {"step": step, …}; nonfinite numbers are written as null."""
        entry = {"step": step, **{name: _plain(value) for name, value in values.items()}}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(to_json(entry) + "\n")
        if self.also is not None:
            self.also(step, {name: value for name, value in values.items() if _is_number(value)})

    def drop_after(self, step: int) -> None:
        """Remove the entries after `step`, which a resumed run writes again."""
        kept = [entry for entry in read_metrics(self.path) if entry["step"] <= step]
        with atomic_write(self.path, "w") as file:
            file.writelines(to_json(entry) + "\n" for entry in kept)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a metrics.jsonl, without an incomplete last line, which a crash can leave.

    Raises:
        RequestError: another line is not a JSON object with a step, or the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise read_error(path, error) from error
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = parse_json(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            entries.append(entry)
        elif number < len(lines):
            raise RequestError(f'{path}:{number} is not a JSON object with a "step". Correct or remove this line.')
    return entries


def curve(entries: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Return the steps and the values of the logged number `name`, without nonfinite values."""
    points = [(entry["step"], entry[name]) for entry in entries if _is_number(entry.get(name))]
    return [step for step, _ in points], [float(value) for _, value in points]


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that is too large for a float
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, (str, int, bool)) or value is None:
        return value
    number = float(value)
    return number if math.isfinite(number) else None
