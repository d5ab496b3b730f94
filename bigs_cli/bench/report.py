"""Reports of benchmarks: tables on stdout, or a JSON object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bigs_cli.core.environment import describe_machine
from bigs_cli.core.files import to_json, write_json
from bigs_cli.reporting.console import err, out

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

STDOUT = "-"


def heading(bench: str, **settings: Any) -> dict[str, Any]:
    """Return the first fields of the JSON object of a benchmark: its name, settings, and the machine."""
    return {"bench": bench, "settings": settings, "machine": describe_machine()}


def as_json(measured: Sequence[DataclassInstance]) -> list[dict[str, Any]]:
    """Return the measurements for JSON."""
    return [asdict(one) for one in measured]


def show(report: Mapping[str, Any], tables: Sequence[Table], summary: Sequence[str], target: str | None) -> None:
    """Print tables and summary to stdout, and write the JSON object `report` to the file `target` if it is not None.

    If `target` is "-", only the JSON object is printed to stdout.
    """
    if target == STDOUT:
        out.print(to_json(report, indent=2, sort_keys=True))
        return
    for table in tables:
        out.print(table)
        out.print()
    for line in summary:
        out.print(line)
    if target is not None:
        write_json(Path(target), report)
        err.print(f"Wrote the results to {target}.")
