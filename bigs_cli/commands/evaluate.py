"""`bigs evaluate`, also `bigs eval`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bigs_cli.checkpoint.resolve import OpenModel

EPILOG = """[bold]Examples:[/bold]

bigs eval sst2 --model runs/sst2 --data glue/SST-2

bigs eval mlm --model runs/small --data shards/wiki-128"""


def evaluate(
    task: Annotated[
        str | None,
        typer.Argument(help="A task (as in `bigs finetune`), or mlm.", show_default="what the model was trained for"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A run, folder, hub id or short name.",
            show_default="the newest run",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="The task's files; for mlm, token shards or HDF5 files.",
            show_default="the hub; the run's shards",
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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure a model on a task's dev set, or its masked-word loss on held-out text."""
    from bigs_cli.commands.shared import open_and_announce, prepare_jax
    from bigs_cli.core.errors import RequestError
    from bigs_cli.tasks import get_task

    if task not in (None, "mlm"):
        get_task(task)  # An unknown name is refused before anything is loaded.
    prepare_jax()
    opened = open_and_announce(model)
    if task is None:
        trained_for = None if opened.run is None else opened.run.results().get("task", "mlm")
        if trained_for is None:
            raise RequestError("Say what to measure: bigs eval TASK --model MODEL, with a task's name or mlm.")
        task = str(trained_for)
    if task == "mlm":
        _evaluate_mlm(opened, data, batch_size, as_json)
    else:
        _evaluate_task(opened, task, data, length, batch_size, trim, predictions, as_json)


def _evaluate_task(
    opened: OpenModel,
    name: str,
    data: Path | None,
    length: int | None,
    batch_size: int | None,
    trim: bool,
    predictions: Path | None,
    as_json: bool,
) -> None:
    from bigs_cli.commands.shared import tokenizer_of
    from bigs_cli.core.files import write_lines
    from bigs_cli.evaluation.on_task import ModelOnTask, settings_for
    from bigs_cli.reporting.console import err, out, progress
    from bigs_cli.reporting.scores import scores_table
    from bigs_cli.tasks import get_task

    task = get_task(name)
    settings = settings_for(opened, task, data, length, batch_size, trim)
    if settings.data != data:
        err.print(f"Data: {settings.data} (the run's)")
    if settings.trim and not opened.config.mask_padding:
        err.print("Padding is trimmed. This model reads its padding: its outputs are not those of full-length inputs.")
    model = ModelOnTask(opened, tokenizer_of(opened), task, settings)
    splits = model.splits()
    with progress(task.title, sum(len(split.inputs) for split in splits), "example") as advance:
        metrics, scores = model.measure(splits, advance)
    if predictions is not None:
        write_lines(predictions, model.predictions(splits, scores))
        err.print(f"Every example's prediction is in {predictions}.")
    if as_json:
        out.print_json(json.dumps({"task": task.name, "model": opened.source, "metrics": metrics}))
    else:
        out.print(scores_table(task, metrics))


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
