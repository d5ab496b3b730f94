"""`bigs doctor`."""

from __future__ import annotations

import typer

from bigs_cli.commands import options as opt

EPILOG = "[bold]Example:[/bold] bigs doctor --json - > doctor.json"


def doctor(
    json_file: opt.JsonFile = None,
) -> None:
    """Check this machine: versions, devices, memory, speed, folders, the hub, and what would prevent each command.

    The exit code is 1 if a command cannot run.
    """
    from bigs_cli.bench.report import check_target, show
    from bigs_cli.reporting.console import progress, table

    check_target(json_file)
    from bigs_cli.bench.doctor import examine, figures, stopped
    from bigs_cli.commands.shared import prepare_jax

    prepare_jax()
    findings = []
    with progress("checking", None, "item") as advance:
        for finding in examine():
            findings.append(finding)
            advance(1)
    found = table("", "what", "found", "")
    found.title = None
    for one in findings:
        found.add_row(one.what, one.found, one.advice)
    verbs = stopped(findings)
    lines = [f"bigs {verb}: {'; '.join(reasons) or 'ready'}" for verb, reasons in verbs.items()]
    show(figures(findings), [found], lines, json_file)
    if any(verbs.values()):
        raise typer.Exit(1)
