"""Minimal pairs: two sentences, of which a model should find the good one more probable than the bad one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.folders import check_link, list_files
from bigs_cli.reporting.pairs import Accuracy
from bigs_cli.tasks.reading import Table, read_table

Array = np.ndarray[Any, Any]

GOOD, BAD = "sentence_good", "sentence_bad"
SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
"""What is read of a folder."""

BLIMP_LEVELS = {"field": "field", "phenomenon": "linguistics_term", "paradigm": "UID"}
"""What BLiMP's pairs are grouped by, from coarse to fine: our word → its column (Warstadt et al. 2020)."""
_BLIMP_SPELLINGS = {"syntax/semantics": "syntax_semantics", "s-selection": "argument_structure"}
"""Names in BLiMP's files that its paper does not tell apart: it has 4 fields and 12 phenomena."""
BLIMP_REPOSITORY = "nyu-mll/blimp"
BLIMP_FILES = 67


@dataclass(frozen=True)
class Pairs:
    """The pairs of one file; `groups` has, for every level that is reported, the group of each pair."""

    name: str
    good: list[str]
    bad: list[str]
    places: list[str]
    groups: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.good)


def read_pairs(
    path: Path, levels: Mapping[str, str], good: str = GOOD, bad: str = BAD, limit: int | None = None
) -> Pairs:
    """Read a CSV, TSV, JSONL or Parquet file with the columns `good` and `bad`; `levels` maps levels to columns.

    Only the first `limit` pairs are taken.

    Raises:
        RequestError: the file cannot be read, a column is missing, or a sentence is no text or empty.
    """
    return pairs_of(read_table(path).first_rows(limit), levels, good, bad)


def pairs_of(table: Table, levels: Mapping[str, str], good: str = GOOD, bad: str = BAD) -> Pairs:
    """Return the pairs in a table; see `read_pairs`."""
    sides = []
    for name in (good, bad):
        sides.append(table.texts(name))
        for text, place in zip(sides[-1], table.places, strict=True):
            if not text.strip():
                raise RequestError(f"{place}: column '{name}' is empty. A pair needs two sentences.")
    return Pairs(table.name, sides[0], sides[1], [*table.places], groups_of(table, levels))


def groups_of(table: Table, levels: Mapping[str, str]) -> dict[str, list[str]]:
    """Return, for every level, its column's values as text."""
    return {level: [str(value) for value in table.column(column)] for level, column in levels.items()}


def find_tables(data: Sequence[Path], warn: Callable[[str], None] = lambda sentence: None) -> list[Path]:
    """Return files as they are, and for folders the tables in them and below, by name; hidden ones are passed over.

    `warn` is called with a sentence about entries of a folder that cannot be read, such as dangling links.

    Raises:
        RequestError: none is named, there is no such file or folder, or nothing to read in it.
    """
    if not data:
        raise RequestError("Name the files to measure on: --data FILE, or a folder of them.")
    found: list[Path] = []
    for place in data:
        inside = [place]
        check_link(place)
        if place.is_dir():
            listing = list_files(place)
            if listing.warning:
                warn(listing.warning)
            inside = sorted(path for path in listing.files if path.name.endswith(SUFFIXES))
        elif not place.is_file():
            raise RequestError(f"There is no file or folder {place} (--data).")
        if not inside:
            raise RequestError(f"The folder {place} holds no tables of pairs ({', '.join(SUFFIXES)}).")
        found += inside
    return found


def read_blimp(path: Path, by: str, limit: int | None = None) -> Pairs:
    """Read a file of BLiMP, grouped by every level down to `by`, under the names of its paper; see `read_pairs`."""
    names = list(BLIMP_LEVELS)
    levels = {name: BLIMP_LEVELS[name] for name in names[: names.index(by) + 1]}
    pairs = read_pairs(path, levels, limit=limit)
    groups = {level: [_BLIMP_SPELLINGS.get(name, name) for name in of_all] for level, of_all in pairs.groups.items()}
    return replace(pairs, groups=groups)


def fetch_blimp() -> Path:
    """Return the folder in the hub's cache with all of BLiMP, fetched if it is not there: 67 files of 1,000 pairs.

    Raises:
        RequestError: neither the hub nor a whole cached copy can be reached.
    """
    from bigs_cli.core.hub import fetch_files, hush_client

    hush_client()
    try:
        # All files at once, eight in parallel: `datasets` would ask several things of the hub for each of the 67.
        folder = fetch_files(BLIMP_REPOSITORY, ["*/train-*.parquet"], kind="dataset")
        count = len(find_tables([folder])) if folder.is_dir() else 0
        if count == BLIMP_FILES:
            return folder
        problem = f"{BLIMP_REPOSITORY} has {count} of its {BLIMP_FILES} files."
    except BigsError as error:
        problem = str(error)
    raise RequestError(
        f"BLiMP could not be read from the hub: {problem} Pass --data DIR holding its .jsonl files "
        "(https://github.com/alexwarstadt/blimp), or connect to the hub once."
    )


def accuracies(right: Array, groups: Mapping[str, Sequence[str]]) -> list[Accuracy]:
    """Return the accuracy over all pairs, then that of every group of every level.

    `right` `[n]` is whether the good one scored strictly higher: a tie is wrong, as in BLiMP's own figures. Groups
    are in the order of their numbers, or else of their names.
    """
    result = [Accuracy("all", "all", len(right), int(right.sum()))]
    for level, names in groups.items():
        values = np.array(names, object)
        for name in _in_order(set(names)):
            chosen = right[values == name]
            result.append(Accuracy(level, name, len(chosen), int(chosen.sum())))
    return result


def _in_order(names: set[str]) -> list[str]:
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)
