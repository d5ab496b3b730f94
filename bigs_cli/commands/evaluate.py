"""`bigs evaluate`, also `bigs eval`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from bigs_cli.commands import local

EPILOG = """[bold]Examples:[/bold]

bigs eval sst2 --model runs/sst2 --data glue

bigs eval mlm --model runs/small --data shards/wiki-128

bigs eval glue --model runs/glue --format markdown

bigs eval glue --model runs/glue --data glue --submission glue.zip

bigs eval blimp --model runs/small --data blimp --by paradigm"""
PROBES = ("blimp", "pairs", "agreement")
_PROBING = "Minimal pairs and agreement (blimp, pairs, agreement)"


def evaluate(
    task: Annotated[
        str | None,
        typer.Argument(
            help="A task (as in `bigs finetune`), glue, custom, mlm, blimp, pairs or agreement.",
            show_default="what the model was trained for",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A run, folder, hub id or short name; for glue, the folder of the suite's runs.",
            show_default="the newest run",
            parser=local.name,
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="The task's files; for mlm, token shards or HDF5 files; for custom, pairs and agreement, tables.",
            show_default="the run's, else the hub",
            parser=local.path,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="Measure on dev, test, …; one without labels takes --predictions.",
            show_default="all of dev",
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            "--length",
            min=4,
            help="Tokens an input is cut and padded to.",
            show_default="the run's, else all positions",
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Examples at once.", show_default="the run's, else 32")
    ] = None,
    trim: Annotated[
        bool | None,
        typer.Option(
            "--trim-padding/--full-padding",
            help="Cut batches to their longest text, or not. Cutting changes what models that read their padding say.",
            show_default="the run's, else cut where it changes nothing",
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="FILE",
            help="Write each example's prediction and scores, as JSONL.",
            parser=local.path,
        ),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            "--submission",
            metavar="FILE",
            help="For glue: predict the test sets, write the zip for the server.",
            parser=local.path,
        ),
    ] = None,
    form: Annotated[
        Literal["table", "markdown", "csv", "json"], typer.Option("--format", help="How the figures are printed.")
    ] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    allow_untrained: Annotated[
        bool, typer.Option("--allow-untrained", help="Measure also a head that was never trained.")
    ] = False,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by",
            metavar="NAME",
            help="Of blimp: field, phenomenon or paradigm; else a column whose groups are told apart. "
            "Repeat it for more.",
            rich_help_panel=_PROBING,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Take at most so many pairs of a file.", rich_help_panel=_PROBING),
    ] = None,
    within_word: Annotated[
        bool,
        typer.Option(
            "--within-word", help="With a piece of a word, mask the later pieces of it too.", rich_help_panel=_PROBING
        ),
    ] = False,
    good: Annotated[
        str | None,
        typer.Option(
            "--good", metavar="COLUMN", help="Column of the good sentence, or form.", rich_help_panel=_PROBING
        ),
    ] = None,
    bad: Annotated[
        str | None,
        typer.Option("--bad", metavar="COLUMN", help="Column of the bad sentence, or form.", rich_help_panel=_PROBING),
    ] = None,
    sentence: Annotated[
        str,
        typer.Option(
            "--sentence",
            metavar="COLUMN",
            help="Of agreement: column with the masked sentence.",
            rich_help_panel=_PROBING,
        ),
    ] = "sentence",
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="A,B,…",
            help="Of agreement: the columns of a file without a line of their names.",
            rich_help_panel=_PROBING,
        ),
    ] = None,
) -> None:
    """Measure a model: on a task, by its loss on held-out text, or, untrained for it, on pairs of sentences.

    The figures go to stdout. A run's own data and length are used again, so that they are those of its results.json.
    """
    from bigs_cli.checkpoints.resume import run_recipe
    from bigs_cli.commands import measure
    from bigs_cli.commands.shared import open_and_announce, prepare_jax, refuse_untrained
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import check_output_file
    from bigs_cli.recipe import FinetuneRecipe
    from bigs_cli.tasks import get_task, task_of

    form = "json" if as_json else form
    if submission is not None and task != "glue":
        raise RequestError("--submission is for the whole suite: bigs eval glue --model RUNS --submission FILE.zip")
    if task not in PROBES and data is not None and len(data) > 1:
        raise RequestError(f"Name one --data; several are for {', '.join(PROBES)}.")
    for written, option in ((predictions, "--predictions"), (submission, "--submission")):
        if written is not None:
            check_output_file(written, option)
            _check_apart(written, option, data or ())
    place = data[0] if data else None
    if task == "glue":
        measure.evaluate_suite(model, place, form, submission, batch_size)
        return
    if form not in ("table", "json") and task not in PROBES:
        raise RequestError(f"--format {form} is for glue, {', '.join(PROBES)}; other figures are a table or json.")
    if task not in (None, "mlm", "custom", *PROBES):
        get_task(task)  # An unknown name is refused before anything is loaded.
    prepare_jax()
    opened = open_and_announce(model)
    if not allow_untrained:
        refuse_untrained(opened)
    if task in PROBES:
        from bigs_cli.commands import probe

        common = {"limit": limit, "length": length, "batch_size": batch_size, "predictions": predictions, "form": form}
        names = {name: value for name, value in (("good", good), ("bad", bad)) if value is not None}
        if task == "blimp":
            probe.evaluate_blimp(opened, data or (), probe.blimp_level(by), within_word, **common)
        elif task == "pairs":
            probe.evaluate_pairs(opened, data or (), by=by or (), within_word=within_word, **names, **common)
        else:
            listed = columns.split(",") if columns else None
            probe.evaluate_agreement(opened, data or (), by or (), sentence, columns=listed, **names, **common)
        return
    recipe = None if opened.run is None else run_recipe(opened.run.path)
    trained_for = recipe.task if isinstance(recipe, FinetuneRecipe) else None if recipe is None else "mlm"
    task = task or trained_for
    if task is None:
        raise RequestError("Say what to measure: bigs eval TASK --model MODEL, with a task's name or mlm.")
    if task == "mlm":
        measure.evaluate_mlm(opened, place, batch_size, form == "json")
        return
    if task != "custom":
        measured = get_task(task)
    elif isinstance(recipe, FinetuneRecipe) and recipe.files is not None:
        if place is not None and place.is_dir():
            raise RequestError(f"--data takes the file to measure on, with the columns of --dev; {place} is a folder.")
        if place is not None:
            recipe = recipe.model_copy(update={"files": recipe.files.model_copy(update={"dev": str(place)})})
            place = None
        measured = task_of(recipe)
    else:
        raise RequestError(f"{opened.source} was not trained for a task of your own: bigs finetune --train FILE …")
    measure.evaluate_task(opened, measured, place, split, length, batch_size, trim, predictions, form == "json")


def _check_apart(written: Path, option: str, data: Sequence[Path]) -> None:
    """Refuse to write over what is measured (RequestError)."""
    from bigs_cli.core.errors import RequestError

    for place in data:
        if written.exists() and written.resolve().is_relative_to(place.resolve()):
            raise RequestError(f"{option} {written} belongs to --data, and would be lost. Name another file.")
