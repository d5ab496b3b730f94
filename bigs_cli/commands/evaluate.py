"""`bigs evaluate`, also `bigs eval`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from bigs_cli.checkpoint.resolve import OpenModel
    from bigs_cli.tasks.task import Task

EPILOG = """[bold]Examples:[/bold]

bigs eval sst2 --model runs/sst2 --data glue

bigs eval mlm --model runs/small --data shards/wiki-128

bigs eval glue --model runs/glue --format markdown

bigs eval glue --model runs/glue --data glue --submission glue.zip"""


def evaluate(
    task: Annotated[
        str | None,
        typer.Argument(
            help="A task (as in `bigs finetune`), glue, or mlm.", show_default="what the model was trained for"
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
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="The task's files; for mlm, token shards or HDF5 files; for a task of your own, a table.",
            show_default="the run's, else the hub",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="dev, test, …; one without labels takes --predictions.", show_default="all of dev"
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
        bool,
        typer.Option(
            "--trim-padding",
            help="Cut batches to their longest text. It changes the outputs of models that read their padding.",
        ),
    ] = False,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", metavar="FILE", help="Write each example's prediction and scores, as JSONL."),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            "--submission", metavar="FILE", help="For glue: predict the test sets, write the zip for the server."
        ),
    ] = None,
    form: Annotated[
        Literal["table", "markdown", "csv", "json"], typer.Option("--format", help="How the figures are printed.")
    ] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Measure a model on a task, or its masked-word loss on held-out text."""
    from bigs_cli.commands.shared import open_and_announce, prepare_jax
    from bigs_cli.core.errors import RequestError
    from bigs_cli.recipe import FinetuneRecipe, load_recipe
    from bigs_cli.tasks import get_task, task_of

    form = "json" if as_json else form
    if submission is not None and task != "glue":
        raise RequestError("--submission is for the whole suite: bigs eval glue --model RUNS --submission FILE.zip")
    if task == "glue":
        _evaluate_suite(model, data, form, submission, batch_size)
        return
    if form not in ("table", "json"):
        raise RequestError(f"--format {form} is for bigs eval glue; one task's figures are a table or json.")
    if task not in (None, "mlm", "custom"):
        get_task(task)  # An unknown name is refused before anything is loaded.
    prepare_jax()
    opened = open_and_announce(model)
    recipe = None if opened.run is None else load_recipe(str(opened.run.recipe_file))
    trained_for = recipe.task if isinstance(recipe, FinetuneRecipe) else None if recipe is None else "mlm"
    task = task or trained_for
    if task is None:
        raise RequestError("Say what to measure: bigs eval TASK --model MODEL, with a task's name or mlm.")
    if task == "mlm":
        _evaluate_mlm(opened, data, batch_size, form == "json")
        return
    if task != "custom":
        measured = get_task(task)
    elif isinstance(recipe, FinetuneRecipe) and recipe.files is not None:
        if data is not None:
            recipe = recipe.model_copy(update={"files": recipe.files.model_copy(update={"dev": str(data)})})
            data = None
        measured = task_of(recipe)
    else:
        raise RequestError(f"{opened.source} was not trained for a task of your own: bigs finetune --train FILE …")
    _evaluate_task(opened, measured, data, split, length, batch_size, trim, predictions, form == "json")


def _evaluate_task(
    opened: OpenModel,
    task: Task,
    data: Path | None,
    split: str | None,
    length: int | None,
    batch_size: int | None,
    trim: bool,
    predictions: Path | None,
    as_json: bool,
) -> None:
    from bigs_cli.commands.shared import tokenizer_of
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import write_lines
    from bigs_cli.evaluation.on_task import ModelOnTask, settings_for
    from bigs_cli.reporting.console import err, out, progress
    from bigs_cli.reporting.scores import scores_table

    settings = settings_for(opened, task, data, length, batch_size, trim)
    if settings.data != data:
        err.print(f"Data: {settings.data} (the run's)")
    if settings.trim and not opened.config.mask_padding:
        err.print("Padding is trimmed. This model reads its padding: its outputs are not those of full-length inputs.")
    model = ModelOnTask(opened, tokenizer_of(opened), task, settings)
    splits = model.splits([split] if split else [])
    labelled = all(each.examples.labelled for each in splits)
    if not labelled and predictions is None:
        raise RequestError(
            f"The {split} split of {task.title} has no labels to compare with. Have its predictions written: "
            "--predictions FILE"
        )
    metrics: dict[str, float] = {}
    with progress(task.title, sum(len(each.inputs) for each in splits), "example") as advance:
        if labelled:
            metrics, scores = model.measure(splits, advance)
        else:
            scores = model.scores(splits, advance)
    if predictions is not None:
        write_lines(predictions, model.predictions(splits, scores))
        err.print(f"Every example's prediction is in {predictions}.")
    if as_json:
        out.print_json(json.dumps({"task": task.name, "model": opened.source, "metrics": metrics}))
    elif labelled:
        out.print(scores_table(task, metrics))


def _evaluate_suite(
    model: str | None,
    data: Path | None,
    form: Literal["table", "markdown", "csv", "json"],
    submission: Path | None,
    batch_size: int | None,
) -> None:
    from bigs_cli.checkpoint.run import runs_root
    from bigs_cli.reporting.console import out
    from bigs_cli.reporting.suite import suite_table, suite_text

    root = Path(model) if model and Path(model).is_dir() else runs_root() / (model or "glue")
    if submission is not None:
        _submit(root, data, submission, batch_size)
        return
    from bigs_cli.evaluation.suite import suite_lines

    lines = suite_lines(root)
    if form == "table":
        out.print(suite_table(lines, f"GLUE, dev, {root}"))
    else:
        out.print(suite_text(lines, form), markup=False, highlight=False, soft_wrap=True)


def _submit(root: Path, data: Path | None, submission: Path, batch_size: int | None) -> None:
    """Predict every test set that the suite's runs can, and write the zip, the others filled."""
    from bigs_cli.commands.shared import open_and_announce, prepare_jax, tokenizer_of
    from bigs_cli.reporting.console import err, out, progress
    from bigs_cli.tasks import TASKS

    prepare_jax()
    from bigs_cli.evaluation.on_task import ModelOnTask, settings_for
    from bigs_cli.evaluation.submission import PARTS, part_lines, write_submission
    from bigs_cli.evaluation.suite import suite_runs
    from bigs_cli.tasks.read import available_splits

    runs = suite_runs(root)
    files, filled = {}, []
    for part in PARTS:
        run, task = runs.get(part.answered_by), TASKS[part.task]
        if run is None:
            files[part.file] = part_lines(part, None)
            filled.append(part.file)
            continue
        opened = open_and_announce(str(run.path))
        settings = settings_for(opened, task, data, None, batch_size)
        if part.split not in available_splits(task, settings.data):
            err.print(f"The {part.split} set of {task.title} is not under {settings.data}.")
            files[part.file] = part_lines(part, None)
            filled.append(part.file)
            continue
        on_task = ModelOnTask(opened, tokenizer_of(opened), task, settings)
        splits = on_task.splits([part.split])
        with progress(part.file, len(splits[0].inputs), "example") as advance:
            scores = on_task.scores(splits, advance)
        files[part.file] = part_lines(part, list(on_task.predictions(splits, scores)))
    write_submission(submission, files)
    if filled:
        err.print(f"Filled with one answer for every row, as the server wants all files: {', '.join(filled)}.")
    out.print(str(submission))


def _evaluate_mlm(opened: OpenModel, data: Path | None, batch_size: int | None, as_json: bool) -> None:
    from bigs_cli.checkpoint.hub import PUBLISHED_TOKENIZER
    from bigs_cli.checkpoint.names import to_tree
    from bigs_cli.commands.shared import check_tokenizer
    from bigs_cli.core.errors import RequestError
    from bigs_cli.data.hdf5 import open_corpus
    from bigs_cli.data.loader import heldout_batches
    from bigs_cli.data.masking import MaskIds
    from bigs_cli.data.shards import Shards
    from bigs_cli.data.verify import verify
    from bigs_cli.evaluation.mlm import MaskedLMEvaluator, unigram_loss
    from bigs_cli.model.functional import make_apply
    from bigs_cli.recipe import PretrainRecipe, load_recipe
    from bigs_cli.recipe.schema import Compute, Masking
    from bigs_cli.reporting.console import err, out, progress, table

    config = opened.config
    if config.head != "masked-lm":
        raise RequestError(
            f"{opened.source} is a {config.head} model; mlm needs a masked-lm model, such as a pretraining run."
        )
    recipe = None if opened.run is None else load_recipe(str(opened.run.recipe_file))
    if data is None:
        if not isinstance(recipe, PretrainRecipe):
            raise RequestError("Name the token shards to measure on: bigs eval mlm --data DIR (made by bigs tokenize).")
        data = Path(recipe.data.path)
    shards = open_corpus(data, opened.tokenizer or PUBLISHED_TOKENIZER, err.print)
    check_tokenizer(opened.tokenizer, opened.source, shards)
    with progress("verifying", shards.nbytes, "bytes") as advance:
        if isinstance(shards, Shards):
            verify(shards, advance=advance)
        else:
            shards.verify(advance)
    if (
        shards.manifest.vocab_size > config.vocab_size
        or shards.manifest.sequence_length > config.max_position_embeddings
    ):
        raise RequestError(
            f"The shards in {data} (vocabulary {shards.manifest.vocab_size}, length {shards.manifest.sequence_length}) "
            f"do not fit the model (vocabulary {config.vocab_size}, at most {config.max_position_embeddings} tokens)."
        )
    masking, compute = Masking(), Compute()
    if isinstance(recipe, PretrainRecipe):
        masking, compute, batch_size = recipe.masking, recipe.compute, batch_size or recipe.batch_size
    special = MaskIds.of(shards, masking, config.vocab_size) if isinstance(shards, Shards) else None
    evaluator = MaskedLMEvaluator(make_apply(config, compute), special, masking)
    with progress("held-out text", len(shards.split("heldout")), "row") as advance:
        metrics = evaluator(to_tree(opened.flat, config), heldout_batches(shards, batch_size or 32), advance)
    metrics["unigram_loss"] = unigram_loss(shards)
    if as_json:
        out.print_json(json.dumps({"task": "mlm", "model": opened.source, "metrics": metrics}))
        return
    made = table(f"Masked words, held-out part of {data}", "metric", "this model", right=("this model",))
    made.add_row("loss (nats)", f"{metrics['loss']:.4f}")
    made.add_row("  from word frequencies alone", f"{metrics['unigram_loss']:.4f}")
    made.add_row("accuracy (%)", f"{100 * metrics['accuracy']:.2f}")
    made.add_row("perplexity", f"{metrics['perplexity']:.1f}")
    made.add_row("words predicted", f"{metrics['predictions']:,.0f}")
    out.print(made)
