"""Recipe keys of earlier releases: renamed ones keep working, removed ones are ignored, both with a note."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bigs_cli.core.notices import notice
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
"""Keys that are ignored, with any value or only with these. They never changed the results of a run."""
Deprecated = Callable[[str, str], object]
"""Takes the place where an old name was written, and a sentence that names the new one."""


def note_once(place: str, sentence: str) -> None:
    """Print the sentence on stderr, once in this process wherever the old name occurs."""
    notice(sentence)


def rename_keys(source: Source, deprecated: Deprecated = note_once) -> Source:
    """Give renamed keys of `source` their present names. A key that occurs under both names is left, to be refused."""
    for old, new in RENAMED_KEYS.items():
        path, name = tuple(old.split(".")), new.rpartition(".")[2]
        parent = source.data
        for part in path[:-1]:
            inner = parent.get(part)
            parent = inner if isinstance(inner, dict) else {}
        if path[-1] not in parent or name in parent:
            continue
        deprecated(source.place(path, key=True), f"'{old}' is deprecated; use '{new}'.")
        values = {name if key == path[-1] else key: value for key, value in parent.items()}
        parent.clear()
        parent.update(values)
        size = len(path)
        source.places = {
            (*path[:-1], name, *key[size:]) if key[:size] == path else key: at for key, at in source.places.items()
        }
    _drop_removed(source, deprecated)
    return source


def _drop_removed(source: Source, deprecated: Deprecated) -> None:
    """Delete the removed keys of `source`. "auto", which every recipe saved in a run had, needs no note."""
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
            place = source.place((*parents, name), key=True)
            deprecated(place, f"{what} no longer exists and is ignored; the fastest way is chosen automatically.")
        del section[name]
