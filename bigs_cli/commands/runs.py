"""`bigs runs`: what was trained here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="List, show, compare and plot the runs here.", rich_markup_mode="rich")

_RUN = "A run's folder, or its name under $BIGS_RUNS (runs/)."


@app.command("list", epilog="[bold]Example:[/bold] bigs runs list")
def list_runs(
    root: Annotated[
        Path | None, typer.Option("--root", help="Folder of runs.", show_default="$BIGS_RUNS, or runs/")
    ] = None,
) -> None:
    """List the runs, the newest first: kind, task, state, and the figure each ended with."""
    from bigs_cli.checkpoint.run import runs, runs_root
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.runs import list_table

    found = runs(root)
    if not found:
        err.print(f"No runs under {root or runs_root()}/. Make one: bigs demo")
        return
    out.print(list_table(found))


@app.command(epilog="[bold]Example:[/bold] bigs runs show small")
def show(run: Annotated[str, typer.Argument(help=_RUN)]) -> None:
    """Show what a run is: its recipe in brief, how far it is, its results, and its course."""
    from bigs_cli.checkpoint.run import find_run
    from bigs_cli.reporting.console import out
    from bigs_cli.reporting.runs import summary

    for number, part in enumerate(summary(find_run(run))):
        out.print(*([""] if number else []), part, sep="\n")


@app.command(epilog="[bold]Example:[/bold] bigs runs compare small small-2")
def compare(runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help=_RUN)]) -> None:
    """Show in what runs differ: recipes and environments key by key, and their results side by side."""
    from bigs_cli.checkpoint.run import find_run
    from bigs_cli.core.errors import RequestError
    from bigs_cli.reporting import runs as reporting
    from bigs_cli.reporting.console import out

    if len(runs) < 2:
        raise RequestError(f"One run has nothing to be compared with: bigs runs compare {runs[0]} ANOTHER")
    for number, part in enumerate(reporting.compare([find_run(name) for name in runs])):
        out.print(*([""] if number else []), part, sep="\n")


@app.command(epilog="[bold]Example:[/bold] bigs runs plot small small-2 --output small.svg")
def plot(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help=_RUN)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write: .png or .svg.")] = Path("runs.png"),
) -> None:
    """Draw loss, learning rate and throughput of one run, or of several one over another.

    The picture's file goes to stdout, the same curves as lines of text to stderr.
    """
    from bigs_cli.checkpoint.run import find_run
    from bigs_cli.reporting import plots
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.metrics_log import read_metrics
    from bigs_cli.reporting.runs import course_table, short_names

    plots.check_picture(output)
    found = [find_run(name) for name in runs]
    courses = dict(zip(short_names(found), (read_metrics(run.metrics_file) for run in found), strict=True))
    plots.plot(courses, output)
    for name, entries in courses.items():
        err.print(course_table(name, entries, ("loss", "heldout_loss", "learning_rate", "tokens_per_second")))
    out.print(str(output))
