"""Formatting of numbers, names and paths in output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def counted(count: float, noun: str) -> str:
    """Return the count with the noun in the singular or plural: ``1 epoch``, ``2.5 epochs``, ``1,500 steps``."""
    shown = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{shown} {noun if count == 1 else f'{noun}s'}"


def shortest_float(value: Any) -> float:
    """Return a NumPy number as a Python float; a float32 as the shortest decimal that rounds to it.

    For example, the float32 2.4 becomes 2.4 and not 2.4000000953674316. Other types keep their value.
    """
    import numpy as np

    number = np.asarray(value)[()]
    return float(str(number)) if number.dtype == np.float32 else float(number)


def duration(seconds: float) -> str:
    """Return a time with three digits and its unit: ``4.07 days``, ``19.5 hours``, ``85.2 ms``."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def printable(text: str, width: int | None = None) -> str:
    """Return `text` with line breaks and control characters escaped, truncated to `width` characters."""
    if width is not None and len(text) > width:
        text = f"{text[: width - 1]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def without_folders(value: Any) -> Any:
    """Return a JSON or YAML value with absolute paths reduced to their last component, for output that is shared."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    return Path(value).name if _is_absolute(value) else value


def shortened(values: Sequence[Any]) -> list[Any]:
    """Return `values` with absolute paths reduced to as few trailing components as keep them distinct.

    Other values are returned as by `without_folders`.
    """
    paths = {value: Path(value).parts[1:] for value in values if _is_absolute(value)}
    most = max((len(parts) for parts in paths.values()), default=1)
    distinct = (count for count in range(1, most) if len({parts[-count:] for parts in paths.values()}) == len(paths))
    count = next(distinct, most)
    return ["/".join(paths[value][-count:]) if _is_absolute(value) else without_folders(value) for value in values]


def _is_absolute(value: Any) -> bool:
    return isinstance(value, str) and Path(value).is_absolute() and len(Path(value).parts) > 1
