"""How a benchmark reports: a table for a person, one JSON object for everything else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from bigs_cli.core.environment import describe_machine
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json
from bigs_cli.reporting.console import err, out

STDOUT = "-"


def check_target(target: str | None) -> None:
    """Raise RequestError unless the JSON can be written to `target`: before anything is measured."""
    if target is None or target == STDOUT:
        return
    path = Path(target)
    if path.is_dir() or not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise RequestError(f"--json {target} cannot be written. Name a file in a folder that exists, or - for stdout.")


def heading(bench: str, **settings: Any) -> dict[str, Any]:
    """Return how the JSON object of a benchmark begins: what is measured, how, where, and that it begins now."""
    return {"bench": bench, "settings": settings, "machine": describe_machine()}


def show(made: Mapping[str, Any], tables: Sequence[Table], summary: Sequence[str], target: str | None) -> None:
    """Print tables and summary to stdout, and write the JSON object `made` to the file `target`, if there is one.

    With "-" for the file, the object is all there is on stdout.
    """
    if target == STDOUT:
        out.print(json.dumps(made, indent=2, sort_keys=True, ensure_ascii=False))
        return
    for table in tables:
        out.print(table)
        out.print()
    for line in summary:
        out.print(line)
    if target is not None:
        write_json(Path(target), made)
        err.print(f"The figures are in {target}.")
