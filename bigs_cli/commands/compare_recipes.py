"""`bigs bench recipes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bigs_cli.commands import options as opt

EPILOG = """[bold]Examples:[/bold]

bigs bench recipes small small-stacked-attention --data shards/wiki-books-128

bigs bench recipes small mine.yaml --data shards/mine --task sst2-small --blimp blimp --plot recipes.png"""


def compare_recipes(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE",
            help="Pretraining recipes: names or files. The first is the baseline.",
            parser=opt.local_name,
        ),
    ],
    data: Annotated[Path, opt.path_option("--data", help="Token shards to pretrain on.")],
    output: Annotated[Path, opt.path_option("--output", "-o", help="Folder for all runs.")] = Path("runs/recipes"),
    seeds: Annotated[int, typer.Option(min=0, help="Number of seeds per recipe; 0: only show --add-results.")] = 3,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a value of all pretraining recipes. Repeatable."),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        opt.name_option("--task", metavar="RECIPE", help="Fine-tune with this recipe, such as sst2-small. Repeatable."),
    ] = None,
    glue: Annotated[
        Path | None, opt.path_option("--task-data", help="Folder with the files of the tasks.", show_default="the hub")
    ] = None,
    blimp: Annotated[
        Path | None,
        opt.path_option("--blimp", help="Also evaluate on BLiMP: folder with its files.", show_default="no"),
    ] = None,
    blimp_limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Use at most N pairs of each file of BLiMP.", show_default="all"),
    ] = None,
    others: Annotated[
        list[Path] | None,
        opt.path_option(
            "--add-results",
            metavar="FILE",
            help="Also show the results in a --json file of the same comparison, run elsewhere with other seeds or "
            "some of the recipes. Repeatable.",
            show_default="none",
        ),
    ] = None,
    plot: Annotated[
        Path | None, opt.path_option("--plot", help="Also draw the results: a .png or .svg file.", show_default="no")
    ] = None,
    form: Annotated[Literal["table", "markdown"], typer.Option("--format", help="Format of the table.")] = "table",
    json_file: opt.JsonFile = None,
) -> None:
    """Compare pretraining recipes: pretrain, evaluate and fine-tune with several seeds.

    Shows mean and standard deviation over the seeds of every measure, and the p-value of a paired t-test against the
    first recipe. Every step is a bigs command, which is printed. If you repeat an interrupted comparison, completed
    steps are skipped. Speeds are measured too, so the machine should be idle.
    """
    from bigs_cli.bench.recipes import explanation, make_plan, markdown, read_results, recipes_table, run, with_results
    from bigs_cli.bench.report import heading, show
    from bigs_cli.core.errors import RequestError
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.plots.recipes import draw_recipes
    from bigs_cli.reporting.plots.style import check_plot_file, write

    if plot is not None:
        check_plot_file(plot)
    if seeds == 0 and not others:
        raise RequestError("With --seeds 0, nothing is run. Name files with results: --add-results FILE")
    if blimp_limit is not None and blimp is None:
        raise RequestError("--blimp-limit needs --blimp. Name the folder with BLiMP's files.")
    evaluation = {"glue": glue, "blimp": blimp, "blimp_limit": blimp_limit}
    plan = make_plan(output, names, tasks or (), shards=data, seeds=seeds, sets=tuple(sets or ()), **evaluation)
    report = heading(
        "recipes",
        recipes=names,
        tasks=tasks or [],
        data=str(data),
        seeds=seeds,
        sets=sets or [],
        blimp_limit=blimp_limit,
        digests=plan.digests(),
    )
    results = read_results(others or (), report["settings"])
    measures = [one for one in with_results(run(plan), results) if one.scaled]
    report["measures"] = [measure.as_dict() for measure in measures]
    if form == "markdown" and json_file != "-":
        out.print(markdown(measures), "")
        show(report, [], [explanation(measures)], json_file)
    else:
        show(report, [recipes_table(measures)], [explanation(measures)], json_file)
    if plot is not None:
        write(draw_recipes({measure.name: measure.scaled for measure in measures if measure.is_result}), plot)
        err.print(f"Wrote the plot to {plot}.")
