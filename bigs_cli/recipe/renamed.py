"""Recipe keys of earlier releases. Renamed keys still work and removed keys are ignored, both with a note."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bigs_cli.core.errors import notice
from bigs_cli.recipe.source import Source

RENAMED_KEYS = {
    "accumulate": "gradient_accumulation_steps",
    "batch_ramp": "batch_size_warmup",
    "freeze": "freeze_ssm",
    "new_pooler": "head_init",
    "optimizer.kernel": "optimizer.ssm",
    "schedule.final_fraction": "schedule.min_lr_ratio",
    "track": "loggers",
}
REMOVED_KEYS: dict[str, tuple[str, ...] | None] = {
    "compute.layout": None,
    "compute.scan_layers": None,
    "compute.mixing": ("fft", "recurrence"),
}
"""Removed key → None if the key was removed altogether, or the values that were removed.

Neither affected the results of a run."""
Deprecated = Callable[[str, str], object]
"""Called with the location of a renamed or removed key, and a sentence about it."""


def note_once(location: str, sentence: str) -> None:
    """Print the sentence on stderr, once per process."""
    notice(sentence)


def rename_keys(source: Source, deprecated: Deprecated = note_once) -> Source:
    """Rename the old keys of `source`. If both names occur, the old one stays and is rejected as unknown later."""
    for old, new in RENAMED_KEYS.items():
        path, name = tuple(old.split(".")), new.rpartition(".")[2]
        parent = source.data
        for part in path[:-1]:
            inner = parent.get(part)
            parent = inner if isinstance(inner, dict) else {}
        if path[-1] not in parent or name in parent:
            continue
        deprecated(source.location(path, key=True), f"'{old}' is deprecated; use '{new}'.")
        values = {name if key == path[-1] else key: value for key, value in parent.items()}
        parent.clear()
        parent.update(values)
        size = len(path)
        source.locations = {
            (*path[:-1], name, *key[size:]) if key[:size] == path else key: at for key, at in source.locations.items()
        }
    _drop_removed(source, deprecated)
    return source


def _drop_removed(source: Source, deprecated: Deprecated) -> None:
    """Delete the removed keys of `source`, without a note for "auto", their default value."""
    for key, values in REMOVED_KEYS.items():
        *parents, name = key.split(".")
        section: Any = source.data
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if not isinstance(section, dict) or name not in section:
            continue
        value = section[name]
        if values is not None and value not in values:
            continue
        if value != "auto":
            what = f"'{key}'" if values is None else f"'{key}: {value}'"
            location = source.location((*parents, name), key=True)
            deprecated(location, f"{what} was removed and is ignored; the fastest method is chosen automatically.")
        del section[name]
