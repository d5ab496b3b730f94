"""`bigs doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from bigs_cli.commands import local

EPILOG = "[bold]Example:[/bold] bigs doctor --json - > doctor.json"


def doctor(
    json_file: Annotated[
        str | None,
        typer.Option(
            "--json", metavar="FILE", help="Write the findings as JSON; -: to stdout, and no table.", parser=local.name
        ),
    ] = None,
) -> None:
    """Look at this machine: versions, devices, memory, speed, folders, the hub, and what would stop each verb.

    Ends with exit code 1 if something stops a verb.
    """
    from bigs_cli.bench.report import check_target, show
    from bigs_cli.reporting.console import progress, table

    check_target(json_file)
    from bigs_cli.bench.doctor import examine, figures, stopped
    from bigs_cli.commands.shared import prepare_jax

    prepare_jax()
    findings = []
    with progress("looking", None, "thing") as advance:
        for finding in examine():
            findings.append(finding)
            advance(1)
    found = table("", "what", "found", "")
    found.title = None
    for one in findings:
        found.add_row(one.what, one.found, one.advice)
    verbs = stopped(findings)
    lines = [f"bigs {verb}: {'; '.join(reasons) or 'nothing stops it'}" for verb, reasons in verbs.items()]
    show(figures(findings), [found], lines, json_file)
    if any(verbs.values()):
        raise typer.Exit(1)
