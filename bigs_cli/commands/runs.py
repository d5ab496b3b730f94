"""`bigs runs`: list, show, compare, plot and report runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bigs_cli.commands import options as opt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

app = typer.Typer(
    no_args_is_help=True,
    help="List, show, compare, plot and report runs.",
    epilog="[bold]Example:[/bold] bigs runs show small",
    rich_markup_mode="rich",
)

_KERNEL_LENGTH = 128
_RUN = "Folder of a run, or its name in $BIGS_RUNS (runs/)."
Run = Annotated[str, typer.Argument(help=_RUN, parser=opt.local_name)]
Runs = Annotated[list[str], typer.Argument(metavar="RUN", help=_RUN, parser=opt.local_name)]


@app.command("list", epilog="[bold]Example:[/bold] bigs runs list")
def list_runs(
    root: Annotated[
        Path | None,
        opt.path_option("--root", help="Folder that contains the runs.", show_default="$BIGS_RUNS, or runs/"),
    ] = None,
) -> None:
    """List all runs, newest first, with kind, task, state and final result."""
    from bigs_cli.checkpoints.run import runs, runs_root
    from bigs_cli.core.folders import broken_links
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.runs import list_table

    found = runs(root)
    for path in broken_links(root or runs_root()):
        err.print(f"{path} is a broken link.")
    if not found:
        err.print(f"There are no runs in {root or runs_root()}/. To create some, run: bigs demo")
        return
    out.print(list_table(found))


@app.command(epilog="[bold]Example:[/bold] bigs runs show small")
def show(run: Run) -> None:
    """Show the main settings of a run, its progress, results and training curves; or the results of a sweep."""
    from bigs_cli.checkpoints.run import find_run
    from bigs_cli.checkpoints.sweep import find_sweep
    from bigs_cli.evaluation.predictions import scores_of_run
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.runs import summary, task_of_run

    if (root := find_sweep(run)) is not None:
        from bigs_cli.evaluation.sweep import read_sweep

        sweep = read_sweep(root)
        out.print(sweep.table(root.name))
        err.print(*sweep.notes(), sep="\n")
        return
    found = find_run(run)
    task = task_of_run(found)
    scores = scores_of_run(task, found) if task is not None and found.finished else None
    for number, part in enumerate(summary(found, scores)):
        out.print(*([""] if number else []), part, sep="\n")
    for sentence in scores.sentences() if scores is not None else ():
        err.print(sentence)


@app.command(epilog="[bold]Example:[/bold] bigs runs compare small small-2")
def compare(
    runs: Runs,
    examples: opt.Examples = 10,
) -> None:
    """Compare runs: differences in recipe, environment and data, and results side by side.

    For fine-tuning runs of one task, the first run is also compared with each other run, example by example:
    McNemar's exact test for classes or a paired bootstrap of the metric, and the examples on which the two differ.
    """
    from bigs_cli.checkpoints.run import find_run
    from bigs_cli.core.errors import RequestError
    from bigs_cli.reporting import runs as reporting
    from bigs_cli.reporting.console import err, out

    if len(runs) < 2:
        raise RequestError(f"Name at least two runs: bigs runs compare {runs[0]} ANOTHER")
    found = [find_run(name) for name in runs]
    for number, part in enumerate(reporting.compare(found)):
        out.print(*([""] if number else []), part, sep="\n")
    from bigs_cli.evaluation.paired import paired_tables
    from bigs_cli.evaluation.report import paired_with_first

    pairs, notes = paired_with_first(list(zip(reporting.short_names(found), found, strict=True)))
    for pair in pairs:
        for part in paired_tables(pair, examples, width=max(24, min(out.width, 150) - 60)):
            out.print("", part, sep="\n")
    for note in notes:
        err.print(note)


@app.command(
    epilog="""[bold]Examples:[/bold]

bigs runs plot small small-2 --output small.svg

bigs runs plot --validation-curve mrpc mrpc-2

bigs runs plot --confusion mrpc --output confusion.png

bigs runs plot --kernels JunxiongWang/BiGS_512 --output kernels.png"""
)
def plot(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN", help=f"{_RUN} With --kernels, any MODEL.", parser=opt.local_name)
    ],
    output: Annotated[
        Path | None,
        opt.path_option(
            "--output",
            "-o",
            help="Write the plot to this .png or .svg file.",
            show_default="runs.png; validation-curve.png, confusion.png, kernels.png",
        ),
    ] = None,
    validation_curve: Annotated[
        bool, typer.Option("--validation-curve", help="Plot the dev metrics and the loss of fine-tuning runs.")
    ] = False,
    confusion: Annotated[
        bool,
        typer.Option(
            "--confusion",
            help="Plot the predictions of a fine-tuning run against the labels: a confusion matrix, or a scatter plot "
            "of scores.",
        ),
    ] = False,
    kernels: Annotated[
        bool, typer.Option("--kernels", help="Plot the convolution kernels of each layer of a model.")
    ] = False,
    length: opt.KernelLength = None,
) -> None:
    """Plot the loss, learning rate and throughput of one or more runs, or the results of a sweep.

    Prints the path of the plot. The curves are also shown on stderr as sparklines.
    """
    from bigs_cli.checkpoints.sweep import find_sweep
    from bigs_cli.core.errors import RequestError
    from bigs_cli.reporting.console import out
    from bigs_cli.reporting.plots.style import check_plot_file, write

    asked = {"validation-curve": validation_curve, "confusion": confusion, "kernels": kernels}
    kinds = [name for name, on in asked.items() if on]
    if len(kinds) > 1:
        raise RequestError(f"Use only one of --{' and --'.join(kinds)}.")
    kind = kinds[0] if kinds else "runs"
    output = output or Path(f"{kind}.png")
    check_plot_file(output)
    if length is not None and not kernels:
        raise RequestError("--length applies only to --kernels: bigs runs plot --kernels MODEL --length 64")
    if kind in ("confusion", "kernels") and len(runs) > 1:
        raise RequestError(f"--{kind} plots a single run; {len(runs)} were named.")
    if kernels:
        figure = _kernels(runs[0], length or _KERNEL_LENGTH)
    elif confusion:
        figure = _confusion(runs[0])
    elif (root := find_sweep(runs[0])) is not None and len(runs) == 1 and not validation_curve:
        from bigs_cli.evaluation.sweep import read_sweep
        from bigs_cli.reporting.plots.recipes import draw_recipes

        figure = draw_recipes(read_sweep(root).measures)
    else:
        figure = _curves(runs, validation_curve)
    write(figure, output)
    out.print(str(output))


@app.command(epilog="[bold]Example:[/bold] bigs runs report mrpc mrpc-2 --output report.html")
def report(
    runs: Runs,
    output: Annotated[Path, opt.path_option("--output", "-o", help="Write the report to this .html file.")] = Path(
        "report.html"
    ),
    examples: opt.Examples = 10,
    length: opt.KernelLength = None,
) -> None:
    """Write an HTML report on runs: recipes, results, curves, errors, kernels, and comparisons of runs of the same
    task. The report on a sweep compares its settings and describes the run with the best one.

    The report is a single file without scripts or external resources. Prints its path.
    """
    from bigs_cli.checkpoints.run import find_run
    from bigs_cli.commands.shared import prepare_jax
    from bigs_cli.core.error_messages import write_error
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import atomic_write
    from bigs_cli.reporting.console import out

    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise RequestError(f"--output {output} is not an .html file. Name one, such as report.html.")
    from bigs_cli.checkpoints.sweep import find_sweep
    from bigs_cli.evaluation.sweep import read_sweep

    sweeps = {str(root): read_sweep(root) for root in map(find_sweep, runs) if root is not None}
    best = [sweep.best_run for sweep in sweeps.values()]
    found = list(dict.fromkeys([*best, *(find_run(name) for name in runs if find_sweep(name) is None)]))
    prepare_jax()
    from bigs_cli.evaluation.report import gather
    from bigs_cli.evaluation.report import report as written

    text = written(*gather(found, length or _KERNEL_LENGTH), examples, sweeps)
    try:
        with atomic_write(output, "w") as file:
            file.write(text)
    except OSError as error:
        raise write_error(str(output), error, "Name another file with --output.") from error
    out.print(str(output))


@app.command(epilog="[bold]Example:[/bold] bigs runs serve")
def serve(
    root: Annotated[
        Path | None,
        opt.path_option("--root", help="Folder that contains the runs.", show_default="$BIGS_RUNS, or runs/"),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the pages; 0 for any that is free.")] = 6060,
) -> None:
    """Show runs in a browser while they are trained: curves, results, predicted words; reloaded every 10 seconds.

    Only this machine can open the pages. For a run on another machine, forward the port: ssh -L 6060:127.0.0.1:6060
    HOST. Nothing is changed, and only the CPU is used. Ctrl-C ends it.
    """
    import os

    from bigs_cli.checkpoints.run import runs_root
    from bigs_cli.commands.shared import prepare_jax
    from bigs_cli.core.errors import RequestError
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.server import make_server

    folder = root or runs_root()
    if not folder.is_dir():
        raise RequestError(f"There is no folder {folder}. Name the one that contains the runs with --root.")
    os.environ["JAX_PLATFORMS"] = "cpu"  # Accelerators are for training.
    os.nice(5)
    prepare_jax()
    from bigs_cli.evaluation.live import Pages

    try:
        server = make_server(Pages(folder), port)
    except OSError as error:
        raise RequestError(f"Port {port} cannot be used ({error.strerror}). Name another one with --port.") from None
    with server:
        out.print(f"http://127.0.0.1:{server.server_port}/")
        err.print(f"The runs in {folder} are shown at this address. Stop with Ctrl-C.")
        server.serve_forever()


def _curves(names: list[str], validation_curve: bool) -> Figure:
    from bigs_cli.checkpoints.run import find_run
    from bigs_cli.core.errors import RequestError
    from bigs_cli.reporting.console import err
    from bigs_cli.reporting.metrics_log import read_metrics
    from bigs_cli.reporting.plots.curves import PRETRAINING, draw_training_curves, draw_validation_curve
    from bigs_cli.reporting.runs import curves_table, short_names, task_of_run

    found = [find_run(name) for name in names]
    curves = dict(zip(short_names(found), (read_metrics(run.metrics_file) for run in found), strict=True))
    tasks = [task_of_run(run) for run in found]
    if validation_curve:
        task = tasks[0]
        if task is None or tasks.count(task) < len(tasks):
            raise RequestError(
                "--validation-curve applies only to fine-tuning runs of the same task. Leave it out to plot other runs."
            )
        figure = draw_validation_curve(curves, task.metrics[0], task.title)
    else:
        objectives = (PRETRAINING if task is None else task.title for task in tasks)
        figure = draw_training_curves(curves, dict(zip(curves, objectives, strict=True)))
    for name, entries in curves.items():
        err.print(curves_table(name, entries, ("loss", "heldout_loss", "learning_rate", "tokens_per_second")))
    return figure


def _confusion(name: str) -> Figure:
    from bigs_cli.checkpoints.run import find_run
    from bigs_cli.core.errors import RequestError
    from bigs_cli.evaluation.report import dev_predictions, draw_predictions
    from bigs_cli.reporting.runs import short_names, task_of_run

    run = find_run(name)
    task = task_of_run(run)
    if task is None:
        raise RequestError(f"{run.path} is a pretraining run, which has no labels. Name a fine-tuning run.")
    return draw_predictions(short_names([run])[0], task, dev_predictions(run, task))


def _kernels(name: str, length: int) -> Figure:
    from bigs_cli.commands.shared import open_and_announce, prepare_jax
    from bigs_cli.core.errors import RequestError
    from bigs_cli.reporting.plots.kernels import draw_kernels, layer_kernels

    prepare_jax()
    model = open_and_announce(name)
    if model.config.attends:
        raise RequestError(f"{model.name} mixes with attention, so it has no convolution kernels. Name another model.")
    return draw_kernels(layer_kernels(model.flat, model.config, length), f"{model.name}: convolution kernels")
