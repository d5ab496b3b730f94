"""`bigs runs`: what was trained here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bigs_cli.commands import local

if TYPE_CHECKING:
    from matplotlib.figure import Figure

app = typer.Typer(
    no_args_is_help=True,
    help="List, show, compare and plot runs, and report on them.",
    epilog="[bold]Example:[/bold] bigs runs show small",
    rich_markup_mode="rich",
)

_RUN = "A run's folder, or its name under $BIGS_RUNS (runs/)."


@app.command("list", epilog="[bold]Example:[/bold] bigs runs list")
def list_runs(
    root: Annotated[
        Path | None,
        typer.Option(
            "--root", help="List the runs in this folder.", show_default="$BIGS_RUNS, or runs/", parser=local.path
        ),
    ] = None,
) -> None:
    """List the runs, the newest first: kind, task, state, and the figure each ended with."""
    from bigs_cli.checkpoints.run import runs, runs_root
    from bigs_cli.core.folders import broken_links
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.runs import list_table

    found = runs(root)
    for path in broken_links(root or runs_root()):
        err.print(f"{path} is a link that leads nowhere.")
    if not found:
        err.print(f"No runs under {root or runs_root()}/. Make one: bigs demo")
        return
    out.print(list_table(found))


@app.command(epilog="[bold]Example:[/bold] bigs runs show small")
def show(run: Annotated[str, typer.Argument(help=_RUN, parser=local.name)]) -> None:
    """Show what a run is: its recipe in brief, how far it is, its results, and its course."""
    from bigs_cli.checkpoints.run import find_run
    from bigs_cli.evaluation.baselines import scores_of_run
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.runs import summary, task_of_run

    found = find_run(run)
    task = task_of_run(found)
    scores = scores_of_run(task, found) if task is not None and found.finished else None
    for number, part in enumerate(summary(found, scores)):
        out.print(*([""] if number else []), part, sep="\n")
    for sentence in scores.sentences() if scores is not None else ():
        err.print(sentence)


@app.command(epilog="[bold]Example:[/bold] bigs runs compare small small-2")
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help=f"{_RUN} Name two or more.", parser=local.name)],
    examples: Annotated[
        int, typer.Option("--examples", min=0, help="List so many examples to which two runs give different answers.")
    ] = 10,
) -> None:
    """Show in what runs differ: recipes, environments and data key by key, and their results side by side.

    Fine-tuning runs of one task are also compared example by example, the first with each other: McNemar's exact test
    of their classes, or a paired bootstrap of their metric, and the examples to which they give different answers.
    """
    from bigs_cli.checkpoints.run import find_run
    from bigs_cli.core.errors import RequestError
    from bigs_cli.reporting import runs as reporting
    from bigs_cli.reporting.console import err, out

    if len(runs) < 2:
        raise RequestError(f"One run has nothing to be compared with: bigs runs compare {runs[0]} ANOTHER")
    found = [find_run(name) for name in runs]
    for number, part in enumerate(reporting.compare(found)):
        out.print(*([""] if number else []), part, sep="\n")
    from bigs_cli.evaluation.report import paired_with_first
    from bigs_cli.reporting.paired import paired_tables

    pairs, notes = paired_with_first(list(zip(reporting.short_names(found), found, strict=True)))
    for pair in pairs:
        for part in paired_tables(pair, examples, width=max(24, min(out.width, 150) - 60)):
            out.print("", part, sep="\n")
    for note in notes:
        err.print(note)


@app.command(
    epilog="""[bold]Examples:[/bold]

bigs runs plot small small-2 --output small.svg

bigs runs plot --learning mrpc mrpc-2

bigs runs plot --confusion mrpc --output confusion.png

bigs runs plot --kernels JunxiongWang/BiGS_512 --output kernels.png"""
)
def plot(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN", help=f"{_RUN} With --kernels, any MODEL.", parser=local.name)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the picture to this .png or .svg.",
            show_default="runs.png; learning.png, confusion.png, kernels.png",
            parser=local.path,
        ),
    ] = None,
    learning: Annotated[
        bool,
        typer.Option("--learning", help="Draw what the dev set gave over the steps of fine-tuning runs, and the loss."),
    ] = False,
    confusion: Annotated[
        bool,
        typer.Option(
            "--confusion",
            help="Draw a fine-tuning run's predictions against the labels: a confusion matrix, or a scatter of scores.",
        ),
    ] = False,
    kernels: Annotated[
        bool, typer.Option("--kernels", help="Draw what each layer of a model looks at: its convolution kernels.")
    ] = False,
    length: Annotated[
        int | None,
        typer.Option("--length", min=1, help="Draw kernels up to so many tokens away.", show_default="128"),
    ] = None,
) -> None:
    """Draw loss, learning rate and throughput of one run, or of several one over another.

    Prints the path of the picture; the same curves go to stderr as lines of text.
    """
    from bigs_cli.core.errors import RequestError
    from bigs_cli.reporting.console import out
    from bigs_cli.reporting.plots.style import check_picture, write

    asked = [name for name, on in (("learning", learning), ("confusion", confusion), ("kernels", kernels)) if on]
    if len(asked) > 1:
        raise RequestError(f"One picture at a time: --{' or --'.join(asked)}.")
    kind = asked[0] if asked else "runs"
    output = output or Path(f"{kind}.png")
    check_picture(output)
    if length is not None and not kernels:
        raise RequestError("--length is for kernels: bigs runs plot --kernels MODEL --length 64")
    if kind in ("confusion", "kernels") and len(runs) > 1:
        raise RequestError(f"--{kind} draws one at a time; {len(runs)} were named.")
    if kernels:
        figure = _kernels(runs[0], length or 128)
    elif confusion:
        figure = _confusion(runs[0])
    else:
        figure = _courses(runs, learning)
    write(figure, output)
    out.print(str(output))


@app.command(epilog="[bold]Example:[/bold] bigs runs report mrpc mrpc-2 --output report.html")
def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help=_RUN, parser=local.name)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Write the page to this .html.", parser=local.path)
    ] = Path("report.html"),
    examples: Annotated[
        int, typer.Option("--examples", min=0, help="List at most so many examples in each place.")
    ] = 10,
    length: Annotated[int, typer.Option("--length", min=1, help="Draw kernels up to so many tokens away.")] = 128,
) -> None:
    """Write one page about runs: recipes, results, curves, errors and kernels, and how those of one task compare.

    The page needs no other file and no network, and holds no script. Prints its path.
    """
    from bigs_cli.checkpoints.run import find_run
    from bigs_cli.commands.shared import prepare_jax
    from bigs_cli.core.error_messages import refused
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import atomic_write
    from bigs_cli.reporting.console import out

    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise RequestError(f"{output} is no name of a page. Name a file that ends in .html with --output.")
    found = list(dict.fromkeys(find_run(name) for name in runs))
    prepare_jax()
    from bigs_cli.evaluation.report import gather
    from bigs_cli.reporting.report import report as written

    text = written(*gather(found, length), examples)
    try:
        with atomic_write(output, "w") as file:
            file.write(text)
    except OSError as error:
        raise refused(str(output), error, "Name another file with --output.") from error
    out.print(str(output))


def _courses(names: list[str], learning: bool) -> Figure:
    from bigs_cli.checkpoints.run import find_run
    from bigs_cli.core.errors import RequestError
    from bigs_cli.reporting.console import err
    from bigs_cli.reporting.metrics_log import read_metrics
    from bigs_cli.reporting.plots.training_curves import PRETRAINING, draw_course
    from bigs_cli.reporting.plots.validation_curve import draw_learning
    from bigs_cli.reporting.runs import course_table, short_names, task_of_run

    found = [find_run(name) for name in names]
    courses = dict(zip(short_names(found), (read_metrics(run.metrics_file) for run in found), strict=True))
    tasks = [task_of_run(run) for run in found]
    if learning:
        task = tasks[0]
        if task is None or tasks.count(task) < len(tasks):
            raise RequestError("--learning is for fine-tuning runs of one task; draw others without it.")
        figure = draw_learning(courses, task.metrics[0], task.title)
    else:
        objectives = (PRETRAINING if task is None else task.title for task in tasks)
        figure = draw_course(courses, dict(zip(courses, objectives, strict=True)))
    for name, entries in courses.items():
        err.print(course_table(name, entries, ("loss", "heldout_loss", "learning_rate", "tokens_per_second")))
    return figure


def _confusion(name: str) -> Figure:
    from bigs_cli.checkpoints.run import find_run
    from bigs_cli.core.errors import RequestError
    from bigs_cli.evaluation.report import answered_by
    from bigs_cli.reporting.report import draw_answers
    from bigs_cli.reporting.runs import short_names, task_of_run

    run = find_run(name)
    task = task_of_run(run)
    if task is None:
        raise RequestError(f"{run.path} is a pretraining run: it has no classes to confuse. Name a fine-tuning run.")
    return draw_answers(short_names([run])[0], task, answered_by(run, task))


def _kernels(name: str, length: int) -> Figure:
    from bigs_cli.commands.shared import open_and_announce, prepare_jax
    from bigs_cli.reporting.plots.kernels import draw_kernels, layer_kernels

    prepare_jax()
    model = open_and_announce(name)
    return draw_kernels(layer_kernels(model.flat, model.config, length), f"{model.name}: convolution kernels")
