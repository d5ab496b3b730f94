"""`bigs doctor`."""

from __future__ import annotations

import typer

from bigs_cli.commands import options as opt

EPILOG = "[bold]Example:[/bold] bigs doctor --json - > doctor.json"


def doctor(
    json_file: opt.JsonFile = None,
) -> None:
    """Check this machine: versions, devices, memory, speed, folders, hub access, and whether each command can run.

    The exit code is 1 if a command cannot run.
    """
    from bigs_cli.bench.doctor import as_json, examine, stopped
    from bigs_cli.bench.report import show
    from bigs_cli.commands.shared import prepare_jax
    from bigs_cli.reporting.console import progress, table

    prepare_jax()
    findings = []
    with progress("checking", None, "item") as advance:
        for finding in examine():
            findings.append(finding)
            advance(1)
    findings_table = table("", "item", "found", "")
    findings_table.title = None
    for finding in findings:
        findings_table.add_row(finding.what, finding.found, finding.advice)
    obstacles = stopped(findings)
    lines = [f"bigs {verb}: {'; '.join(reasons) or 'ready'}" for verb, reasons in obstacles.items()]
    show(as_json(findings), [findings_table], lines, json_file)
    if any(obstacles.values()):
        raise typer.Exit(1)
