"""Minimal pairs of a good and a bad sentence: reading them, and the accuracy of a model by group."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table as ConsoleTable

from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.files import to_json
from bigs_cli.core.folders import check_link, list_files
from bigs_cli.data.files import local_file
from bigs_cli.data.rows import READERS
from bigs_cli.reporting.console import Format, markdown_table, table
from bigs_cli.tasks.reading import Table, read_table

Array = np.ndarray[Any, Any]

GOOD, BAD = "sentence_good", "sentence_bad"
SUFFIXES = tuple(suffix for suffix in READERS if suffix not in (".txt", ".json"))
"""The files that are read from a folder, also compressed. Text files have no columns; .json are often metadata."""

BLIMP_LEVELS = {"field": "field", "phenomenon": "linguistics_term", "paradigm": "UID"}
"""The levels that BLiMP's pairs are grouped by, from coarse to fine: name → column (Warstadt et al. 2020)."""
_BLIMP_SPELLINGS = {"syntax/semantics": "syntax_semantics", "s-selection": "argument_structure"}
"""Names in BLiMP's files that are variants of names in its paper, which has 4 fields and 12 phenomena."""
BLIMP_REPOSITORY = "nyu-mll/blimp"
BLIMP_FILES = 67
_HEADERS = ("by", "group", "n", "accuracy (%)", "95% interval")


@dataclass(frozen=True)
class Pairs:
    """The pairs of one file; `groups` maps every reported level to the group of each pair."""

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

    With `limit`, only the first `limit` pairs are read.

    Raises:
        RequestError: the file cannot be read, a column is missing, or a sentence is not text or is blank.
    """
    return pairs_of(read_table(path).first_rows(limit), levels, good, bad)


def pairs_of(table: Table, levels: Mapping[str, str], good: str = GOOD, bad: str = BAD) -> Pairs:
    """Return the pairs in a table, with the arguments of `read_pairs`."""
    sides = []
    for name in (good, bad):
        sides.append(table.texts(name))
        for text, place in zip(sides[-1], table.places, strict=True):
            if not text.strip():
                raise RequestError(f"{place}: column '{name}' is empty. A pair needs two sentences.")
    return Pairs(table.name, sides[0], sides[1], [*table.places], groups_of(table, levels))


def groups_of(table: Table, levels: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the values of the column of every level, as text."""
    return {level: [str(value) for value in table.column(column)] for level, column in levels.items()}


def find_tables(data: Sequence[Path], warn: Callable[[str], None] = lambda sentence: None) -> list[Path]:
    """Return the files in `data` and the tables in its folders and their subfolders, sorted by name.

    Hidden files are skipped. `warn` is called with a sentence about unreadable entries of a folder, such as broken
    links.

    Raises:
        RequestError: `data` is empty, a file or folder does not exist, or a folder has no tables.
    """
    if not data:
        raise RequestError("Name the files to evaluate on: --data FILE, or a folder of files.")
    found: list[Path] = []
    for place in data:
        inside = [place]
        check_link(place)
        if place.is_dir():
            listing = list_files(place)
            if listing.warning:
                warn(listing.warning)
            inside = sorted(path for path in listing.files if local_file(path).suffix in SUFFIXES)
        elif not place.is_file():
            raise RequestError(f"There is no file or folder {place} (--data).")
        if not inside:
            raise RequestError(f"The folder {place} contains no tables of pairs ({', '.join(SUFFIXES)}).")
        found += inside
    return found


def read_blimp(path: Path, by: str, limit: int | None = None) -> Pairs:
    """Read a file of BLiMP, grouped by every level down to `by`, with the names of the paper; see `read_pairs`."""
    order = list(BLIMP_LEVELS)
    levels = {name: BLIMP_LEVELS[name] for name in order[: order.index(by) + 1]}
    pairs = read_pairs(path, levels, limit=limit)
    groups = {level: [_BLIMP_SPELLINGS.get(name, name) for name in names] for level, names in pairs.groups.items()}
    return replace(pairs, groups=groups)


def fetch_blimp() -> Path:
    """Download BLiMP, 67 files of 1,000 pairs, unless it is in the hub's cache; return its folder there.

    Raises:
        RequestError: the hub cannot be reached and there is no complete cached copy.
    """
    from bigs_cli.core.hub import fetch_files, silence_client

    silence_client()
    try:
        # One download of all files in parallel: `datasets` would send several requests for each of the 67 files.
        folder = fetch_files(BLIMP_REPOSITORY, ["*/train-*.parquet"], kind="dataset")
        count = len(find_tables([folder])) if folder.is_dir() else 0
        if count == BLIMP_FILES:
            return folder
        problem = f"{BLIMP_REPOSITORY} has {count} of its {BLIMP_FILES} files."
    except BigsError as error:
        problem = str(error)
    raise RequestError(
        f"BLiMP could not be downloaded from the hub: {problem} Pass --data DIR with its .jsonl files "
        "(https://github.com/alexwarstadt/blimp), or connect to the hub once."
    )


@dataclass(frozen=True)
class Accuracy:
    """The number `right` of a group's `n` pairs whose good sentence scored higher; `level` is the grouping."""

    level: str
    group: str
    n: int
    right: int

    @property
    def accuracy(self) -> float:
        """The fraction of correct pairs."""
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% Wilson score interval (1927) of the accuracy on the population of such pairs.

        It lies between 0 and 1.
        """
        from scipy.stats import binomtest

        low, high = binomtest(self.right, self.n).proportion_ci(0.95, method="wilson")
        return float(low), float(high)

    def as_dict(self) -> dict[str, Any]:
        """Return the object for JSON and CSV, with accuracies as fractions."""
        low, high = self.interval
        named = {"level": self.level, "group": self.group, "n": self.n, "right": self.right}
        return {**named, "accuracy": self.accuracy, "low": low, "high": high}


def accuracies(right: Array, groups: Mapping[str, Sequence[str]]) -> list[Accuracy]:
    """Return the accuracy over all pairs, then that of every group of every level.

    `right` `[n]` says whether the good sentence scored strictly higher; as in BLiMP, a tie counts as wrong.
    Groups are sorted as numbers if all are, else by name.
    """
    result = [Accuracy("all", "all", len(right), int(right.sum()))]
    for level, names in groups.items():
        values = np.array(names, object)
        for name in _in_order(set(names)):
            group = right[values == name]
            result.append(Accuracy(level, name, len(group), int(group.sum())))
    return result


def _in_order(names: set[str]) -> list[str]:
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)


def accuracy_table(lines: Sequence[Accuracy], title: str) -> ConsoleTable:
    """Return a table of accuracies in percent."""
    result = table(title, *_HEADERS, right=_HEADERS[2:])
    for line in lines:
        result.add_row(*_cells(line))
    return result


def accuracy_text(lines: Sequence[Accuracy], form: Format, about: Mapping[str, Any]) -> str:
    """Return the accuracies as Markdown (percent), CSV or JSON (fractions); the JSON object starts with `about`."""
    if form == "json":
        metrics = {"accuracy": lines[0].accuracy, "n": lines[0].n}
        return to_json({**about, "metrics": metrics, "groups": [line.as_dict() for line in lines]}, indent=2)
    if form == "markdown":
        return markdown_table(_HEADERS, map(_cells, lines), 2)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0].as_dict()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(line.as_dict() for line in lines)
    return text.getvalue().removesuffix("\n")


def _cells(line: Accuracy) -> list[str]:
    low, high = line.interval
    interval = f"{100 * low:.1f} to {100 * high:.1f}"
    return [line.level, line.group, f"{line.n:,}", f"{100 * line.accuracy:.1f}", interval]
