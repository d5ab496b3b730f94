"""`bigs evaluate`, also `bigs eval`: one sub-command per kind of evaluation; the default evaluates a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from bigs_cli.commands import options as opt
from bigs_cli.commands.custom_task import is_custom
from bigs_cli.commands.minimal_pairs import BlimpLevel

if TYPE_CHECKING:
    from bigs_cli.checkpoints.resolve import OpenModel
    from bigs_cli.tasks.task import Task

EPILOG = """[bold]Examples:[/bold]

bigs eval sst2 --model runs/sst2 --data glue

bigs eval mlm --model runs/small --data shards/wiki-128

bigs eval glue --model runs/glue --format markdown

bigs eval blimp --model runs/small --data blimp --by paradigm

Options of one kind of evaluation: [bold]bigs eval KIND --help[/bold]"""
DEFAULT = "task"
"""The sub-command used if none is named, as in `bigs eval sst2`."""


class EvaluateGroup(TyperGroup):
    """Accepts the name of the sub-command anywhere among the arguments; without one, `task` is used."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse `args` with the sub-command first."""
        return super().parse_args(ctx, args if args in (["--help"], ["-h"]) else self.kind_first(args))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what the usage line shows after the name of the command."""
        return ["[TASK | KIND]", "[OPTIONS]"]

    def kind_first(self, words: list[str]) -> list[str]:
        """Return the words of a command line with the name of the sub-command first."""
        options = [option for command in self.commands.values() for option in command.params]
        takes_value = {name for option in options for name in option.opts if not getattr(option, "is_flag", True)}
        for i, word in enumerate(words):
            if word in self.commands and (i == 0 or words[i - 1] not in takes_value):
                return [word, *words[:i], *words[i + 1 :]]
        return [DEFAULT, *words]


app = typer.Typer(
    cls=EvaluateGroup,
    help="Evaluate a model on a task, on held-out text, or on minimal pairs of sentences, and print its metrics.",
    epilog=EPILOG,
    rich_markup_mode="rich",
)

Data = Annotated[
    Path | None,
    opt.fetched_option(
        "--data",
        metavar="PATH",
        help="Folder, or URL, with the files of the task.",
        show_default="the run's, else the hub",
    ),
]
Shards = Annotated[
    Path | None,
    opt.fetched_option("--data", metavar="PATH", help="Token shards or HDF5 files.", show_default="the run's"),
]
Tables = Annotated[
    list[Path] | None,
    opt.fetched_option(
        "--data", metavar="PATH", help="CSV, TSV, JSONL or Parquet files, or folders of such files. Repeatable."
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Split to evaluate: dev, test, …; a split without labels requires --predictions.",
        show_default="all dev splits",
    ),
]
By = Annotated[
    list[str] | None,
    typer.Option("--by", metavar="COLUMN", help="Also report accuracy per value of this column. Repeatable."),
]
Level = Annotated[BlimpLevel, typer.Option("--by", help="Most detailed level to report.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use at most this many pairs per file.")]
Good = Annotated[
    str, typer.Option("--good", metavar="COLUMN", help="Column of the acceptable sentence or correct form.")
]
Bad = Annotated[
    str, typer.Option("--bad", metavar="COLUMN", help="Column of the unacceptable sentence or incorrect form.")
]
SentenceLength = Annotated[
    int | None, opt.length_option("that of the sentences, or of the longest if the model does not mask padding")
]
Sentences = Annotated[int | None, opt.batch_size_option("128")]
WithinWord = Annotated[
    bool, typer.Option("--within-word", help="When a word piece is masked, also mask the following pieces of its word.")
]


@app.command(DEFAULT, epilog="[bold]Example:[/bold] bigs eval sst2 --model runs/sst2 --data glue")
def evaluate_task(
    task: Annotated[
        str | None,
        typer.Argument(help="A task of bigs finetune, or custom.", show_default="the task of the run"),
    ] = None,
    model: opt.Model = None,
    data: Data = None,
    split: Split = None,
    dimensions: opt.Dimensions = None,
    length: opt.Length = None,
    batch_size: opt.BatchSize = None,
    trim: opt.TrimPadding = None,
    predictions: opt.Predictions = None,
    form: opt.TableFormat = "table",
    as_json: opt.AsJson = False,
    allow_untrained: opt.AllowUntrained = False,
    coordinator: opt.Coordinator = None,
    process: opt.Process = None,
    processes: opt.Processes = None,
) -> None:
    """Evaluate a model on a task. This is the default: bigs eval TASK.

    By default, a run is evaluated with its own data and length, which reproduces the metrics in its results.json.
    """
    from bigs_cli.checkpoints.resume import run_recipe
    from bigs_cli.commands import measure
    from bigs_cli.commands.shared import check_dimensions
    from bigs_cli.core.errors import RequestError
    from bigs_cli.recipe import FinetuneRecipe
    from bigs_cli.tasks import get_task

    as_json = as_json or form == "json"
    _check_output(predictions, "--predictions", [data] if data else [])
    if task is not None and not is_custom(task):
        get_task(task)  # An unknown name is an error before anything is loaded.
    opened = _open(model, allow_untrained, (coordinator, process, processes))
    recipe = None if opened.run is None else run_recipe(opened.run.path)
    name = task or (recipe.task if isinstance(recipe, FinetuneRecipe) else None)
    if name is None and recipe is None:
        raise RequestError("Name a task: bigs eval TASK --model MODEL, or bigs eval mlm --model MODEL")
    if name is None:
        task_options = {
            "--split": split,
            "--dimensions": dimensions,
            "--length": length,
            "--trim-padding": trim,
            "--predictions": predictions,
        }
        for option, value in task_options.items():
            if value is not None:
                raise RequestError(
                    f"{option} does not apply to {opened.source}, a pretraining run. See bigs eval mlm --help"
                )
        measure.evaluate_mlm(opened, data, batch_size, as_json)
        return
    chosen, data = _custom_task(opened, recipe, data) if is_custom(name) else (get_task(name), data)

    from bigs_cli.core.places import place_of
    from bigs_cli.evaluation.task import settings_for
    from bigs_cli.reporting.console import err
    from bigs_cli.tasks.types import type_of

    if dimensions is not None:
        if not type_of(chosen).embeds:
            raise RequestError(f"--dimensions is for sentence embeddings; {chosen.title} has none. Leave it out.")
        check_dimensions(dimensions, opened.config)
        chosen = replace(chosen, dimensions=dimensions)
    settings = settings_for(opened, chosen, data, length, batch_size, trim)
    if data is None and settings.data is not None:
        err.print(f"Data: {place_of(settings.data)} (the run's)")
    measure.evaluate_task(opened, chosen, settings, split, predictions, as_json)


@app.command("glue", epilog="[bold]Example:[/bold] bigs eval glue --model runs/glue --format markdown")
def evaluate_glue(
    model: Annotated[
        str | None,
        opt.source_option(
            "--model",
            "-m",
            metavar="RUNS",
            help="Folder, or URL, of the runs of bigs finetune glue.",
            show_default="runs/glue",
        ),
    ] = None,
    data: Annotated[
        Path | None, opt.fetched_option("--data", metavar="PATH", help="Folder with the test sets for --submission.")
    ] = None,
    submission: Annotated[
        Path | None,
        opt.path_option(
            "--submission", metavar="FILE", help="Predict the test sets and write the zip file for the GLUE server."
        ),
    ] = None,
    batch_size: opt.BatchSize = None,
    form: opt.Format = "table",
    as_json: opt.AsJson = False,
    coordinator: opt.Coordinator = None,
    process: opt.Process = None,
    processes: opt.Processes = None,
) -> None:
    """Compare all GLUE runs with the published scores, or write a submission."""
    from bigs_cli.commands import measure
    from bigs_cli.commands.shared import join_processes
    from bigs_cli.core.errors import RequestError

    given = (
        {"--data": data, "--batch-size": batch_size} if submission is None else {"--json": as_json or form != "table"}
    )
    if unused := [option for option, value in given.items() if value]:
        only = "applies only with" if submission is None else "does not apply with"
        raise RequestError(f"{unused[0]} {only} --submission. Leave it out.")
    _check_output(submission, "--submission", [data] if data else [])
    join_processes(coordinator, process, processes)
    measure.evaluate_suite(model, data, "json" if as_json else form, submission, batch_size)


@app.command("mlm", epilog="[bold]Example:[/bold] bigs eval mlm --model runs/small --data shards/wiki-128")
def evaluate_mlm(
    model: opt.Model = None,
    data: Shards = None,
    batch_size: opt.BatchSize = None,
    form: opt.TableFormat = "table",
    as_json: opt.AsJson = False,
    allow_untrained: opt.AllowUntrained = False,
    coordinator: opt.Coordinator = None,
    process: opt.Process = None,
    processes: opt.Processes = None,
) -> None:
    """Measure the masked-language-model loss on held-out text."""
    from bigs_cli.commands import measure

    measure.evaluate_mlm(
        _open(model, allow_untrained, (coordinator, process, processes)), data, batch_size, as_json or form == "json"
    )


@app.command("blimp", epilog="[bold]Example:[/bold] bigs eval blimp --model runs/small --data blimp --by paradigm")
def evaluate_blimp(
    model: opt.Model = None,
    data: Tables = None,
    by: Level = "phenomenon",
    limit: Limit = None,
    within_word: WithinWord = False,
    length: SentenceLength = None,
    batch_size: Sentences = None,
    predictions: opt.Predictions = None,
    form: opt.Format = "table",
    as_json: opt.AsJson = False,
    allow_untrained: opt.AllowUntrained = False,
    coordinator: opt.Coordinator = None,
    process: opt.Process = None,
    processes: opt.Processes = None,
) -> None:
    """Measure the accuracy of a masked language model on BLiMP.

    Each sentence is scored by its pseudo-log-likelihood. Without --data, BLiMP is downloaded from the hub.
    """
    from bigs_cli.commands import minimal_pairs

    _check_output(predictions, "--predictions", data or ())
    opened = _open(model, allow_untrained, (coordinator, process, processes))
    from bigs_cli.evaluation.pairs import fetch_blimp, read_blimp

    options = minimal_pairs.Options(length, batch_size, predictions, "json" if as_json else form, within_word)
    read = partial(read_blimp, by=by, limit=limit)
    minimal_pairs.evaluate_pairs(opened, "blimp", data or [fetch_blimp()], read, options)


@app.command(
    "pairs", epilog="[bold]Example:[/bold] bigs eval pairs --model small --data pairs.csv --good right --bad wrong"
)
def evaluate_pairs(
    model: opt.Model = None,
    data: Tables = None,
    good: Good = "sentence_good",
    bad: Bad = "sentence_bad",
    by: By = None,
    limit: Limit = None,
    within_word: WithinWord = False,
    length: SentenceLength = None,
    batch_size: Sentences = None,
    predictions: opt.Predictions = None,
    form: opt.Format = "table",
    as_json: opt.AsJson = False,
    allow_untrained: opt.AllowUntrained = False,
    coordinator: opt.Coordinator = None,
    process: opt.Process = None,
    processes: opt.Processes = None,
) -> None:
    """Measure the accuracy of a masked language model on your own minimal pairs.

    Each sentence is scored by its pseudo-log-likelihood.
    """
    from bigs_cli.commands import minimal_pairs

    _check_output(predictions, "--predictions", data or ())
    opened = _open(model, allow_untrained, (coordinator, process, processes))
    from bigs_cli.evaluation.pairs import read_pairs

    options = minimal_pairs.Options(length, batch_size, predictions, "json" if as_json else form, within_word)
    read = partial(read_pairs, levels={name: name for name in by or ()}, good=good, bad=bad, limit=limit)
    minimal_pairs.evaluate_pairs(opened, "pairs", data or (), read, options)


@app.command("agreement", epilog="[bold]Example:[/bold] bigs eval agreement --model small --data lgd_dataset.tsv")
def evaluate_agreement(
    model: opt.Model = None,
    data: Tables = None,
    sentence: Annotated[
        str, typer.Option("--sentence", metavar="COLUMN", help="Column of the sentence with the masked word.")
    ] = "sentence",
    good: Good = "good",
    bad: Bad = "bad",
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="A,B,…", help="Column names of files without a header line."),
    ] = None,
    by: By = None,
    limit: Limit = None,
    length: SentenceLength = None,
    batch_size: Sentences = None,
    predictions: opt.Predictions = None,
    form: opt.Format = "table",
    as_json: opt.AsJson = False,
    allow_untrained: opt.AllowUntrained = False,
    coordinator: opt.Coordinator = None,
    process: opt.Process = None,
    processes: opt.Processes = None,
) -> None:
    """Measure how often a masked language model prefers the correct form of a word.

    The probabilities of the two forms are compared at the mask.
    """
    from bigs_cli.commands import minimal_pairs

    _check_output(predictions, "--predictions", data or ())
    opened = _open(model, allow_untrained, (coordinator, process, processes))
    from bigs_cli.evaluation.agreement import FormColumns, read_agreement

    options = minimal_pairs.Options(length, batch_size, predictions, "json" if as_json else form)
    names = FormColumns(sentence, good, bad, columns.split(",") if columns else None)
    read = partial(read_agreement, by=by or (), columns=names, limit=limit)
    minimal_pairs.evaluate_pairs(opened, "agreement", data or (), read, options)


def _open(model: str | None, allow_untrained: bool, together: tuple[str | None, int | None, int | None]) -> OpenModel:
    """Join the other processes, and open the model. An untrained head is an error unless `allow_untrained`."""
    from bigs_cli.commands.shared import check_untrained, join_processes, open_and_announce, prepare_jax

    join_processes(*together)
    prepare_jax()
    opened = open_and_announce(model)
    if not allow_untrained:
        check_untrained(opened)
    return opened


def _custom_task(opened: OpenModel, recipe: Any, data: Path | None) -> tuple[Task, Path | None]:
    """Return the custom task of the run, with `data` as its dev file if given, and None as its folder."""
    from bigs_cli.core.errors import RequestError
    from bigs_cli.recipe import FinetuneRecipe
    from bigs_cli.tasks import task_of

    if not isinstance(recipe, FinetuneRecipe) or recipe.files is None:
        raise RequestError(
            f"{opened.source} is not a run of a custom task. Train one with: bigs finetune --train FILE …"
        )
    if data is not None and data.is_dir():
        raise RequestError(f"--data {data} is a folder. Name a file with the same columns as the dev set of the run.")
    if data is not None:
        recipe = recipe.model_copy(update={"files": recipe.files.model_copy(update={"dev": str(data)})})
    return task_of(recipe), None


def _check_output(file: Path | None, option: str, data: Sequence[Path]) -> None:
    """Check that `file` can be written without overwriting `data`.

    Raises:
        RequestError: the file cannot be written, or belongs to `data`.
    """
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import check_output_file

    if file is None:
        return
    check_output_file(file, option)
    for path in data:
        if file.exists() and file.resolve().is_relative_to(path.resolve()):
            raise RequestError(f"{option} {file} belongs to --data and would be overwritten. Name another file.")
