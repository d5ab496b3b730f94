"""How a benchmark reports: a table for a person, one JSON object for everything else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bigs_cli.core.environment import describe_machine
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import to_json, write_json
from bigs_cli.reporting.console import err, out

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

STDOUT = "-"


def check_target(target: str | None) -> None:
    """Refuse a `target` that the JSON cannot be written to, before anything is measured.

    Raises:
        RequestError: it is a folder, or its folder is not there or not ours to write.
    """
    if target is None or target == STDOUT:
        return
    path = Path(target)
    if path.is_dir() or not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise RequestError(f"--json {target} cannot be written. Name a file in a folder that exists, or - for stdout.")


def heading(bench: str, **settings: Any) -> dict[str, Any]:
    """Return how the JSON object of a benchmark begins: what is measured, how, where, and that it begins now."""
    return {"bench": bench, "settings": settings, "machine": describe_machine()}


def figures(measured: Sequence[DataclassInstance]) -> list[dict[str, Any]]:
    """Return what was measured for JSON, one object each."""
    return [asdict(one) for one in measured]


def show(made: Mapping[str, Any], tables: Sequence[Table], summary: Sequence[str], target: str | None) -> None:
    """Print tables and summary to stdout, and write the JSON object `made` to the file `target`, if there is one.

    With "-" for the file, the object is all there is on stdout.
    """
    if target == STDOUT:
        out.print(to_json(made, indent=2, sort_keys=True))
        return
    for table in tables:
        out.print(table)
        out.print()
    for line in summary:
        out.print(line)
    if target is not None:
        write_json(Path(target), made)
        err.print(f"The figures are in {target}.")
