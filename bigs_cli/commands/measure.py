"""What `bigs eval` does once it knows what is to be measured: a task, the GLUE suite, held-out text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bigs_cli.checkpoints.resolve import OpenModel
    from bigs_cli.reporting.console import Format
    from bigs_cli.tasks.task import Task


def evaluate_task(
    opened: OpenModel,
    task: Task,
    data: Path | None,
    split: str | None,
    length: int | None,
    batch_size: int | None,
    trim: bool | None,
    predictions: Path | None,
    as_json: bool,
) -> None:
    """Print a model's metrics on the dev splits of `task`, or on `split`, and write its `predictions`.

    JSON has the metrics of the first split as `metrics`, those of every split measured as `splits`, fractions all.

    Raises:
        RequestError: the model is of another kind, a split cannot be read, or has no labels and no `predictions` file.
    """
    from bigs_cli.commands.shared import tokenizer_of
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import to_json, write_lines
    from bigs_cli.core.metric_names import with_splits
    from bigs_cli.evaluation.baselines import scores_of
    from bigs_cli.evaluation.task import ModelOnTask, settings_for
    from bigs_cli.reporting.console import err, out, progress
    from bigs_cli.reporting.padding import tell_of_trimming
    from bigs_cli.reporting.scores import scores_table

    settings = settings_for(opened, task, data, length, batch_size, trim)
    if settings.data != data:
        err.print(f"Data: {settings.data} (the run's)")
    tell_of_trimming(opened.config, settings.trim)
    model = ModelOnTask(opened, tokenizer_of(opened), task, settings)
    splits = model.splits([split] if split else [])
    labelled = all(each.examples.labelled for each in splits)
    if not labelled and predictions is None:
        raise RequestError(
            f"The {split} split of {task.title} has no labels to compare with. Have its predictions written: "
            "--predictions FILE"
        )
    metrics: dict[str, dict[str, float]] = {}
    with progress(task.title, sum(len(each.inputs) for each in splits), "example") as advance:
        if labelled:
            metrics, scores = model.measure(model.params, splits, advance)
        else:
            scores = model.scores(model.params, splits, advance)
    if labelled:
        lines = model.predictions(splits, scores)
        answers = [{key: line[key] for key in ("split", "label", "prediction")} for line in lines]
        found = scores_of(task, metrics, answers)
        if as_json:
            baselines = {name: dict(baseline.metrics) for name, baseline in found.baselines.items()}
            about = {"task": task.name, "model": opened.source, **with_splits(metrics), "baselines": baselines}
            out.print(to_json(about, indent=2))
        else:
            out.print(scores_table(task, found))
        for sentence in found.notes if as_json else found.sentences():
            err.print(sentence)
    elif as_json:
        about = {"task": task.name, "model": opened.source, "split": split, "metrics": {}, "splits": {}}
        out.print(to_json(about, indent=2))
    if predictions is not None:  # Last: a full disk costs no measurement.
        write_lines(predictions, model.predictions(splits, scores))
        err.print(f"Every example's prediction is in {predictions}.")


def evaluate_suite(
    model: str | None,
    data: Path | None,
    form: Format,
    submission: Path | None,
    batch_size: int | None,
) -> None:
    """Print what the runs of a suite (folder or name `model`) ended with, or write the `submission`.

    Raises:
        RequestError: there is no finished run, or a file of one is garbled.
        BigsError: a test set is not the official one, so that the server would refuse the submission.
    """
    from bigs_cli.checkpoints.run import runs_root
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.suite import suite_notes, suite_table, suite_text

    root = Path(model) if model and Path(model).is_dir() else runs_root() / (model or "glue")
    if submission is not None:
        _submit(root, data, submission, batch_size)
        return
    from bigs_cli.evaluation.suite import suite_lines

    lines = suite_lines(root)
    if form == "table":
        out.print(suite_table(lines, f"GLUE, {root.resolve().name}, in percent"))
    else:
        out.print(suite_text(lines, form))
    for note in suite_notes(lines):
        err.print(note)


def _submit(root: Path, data: Path | None, submission: Path, batch_size: int | None) -> None:
    """Predict every test set that the suite's runs can, and write the zip, the others filled."""
    from bigs_cli.commands.shared import open_and_announce, prepare_jax, tokenizer_of
    from bigs_cli.reporting.console import err, out, progress
    from bigs_cli.tasks import TASKS

    prepare_jax()
    from bigs_cli.evaluation.submission import PARTS, part_lines, write_submission
    from bigs_cli.evaluation.suite import suite_runs
    from bigs_cli.evaluation.task import ModelOnTask, settings_for
    from bigs_cli.tasks.splits import available_splits

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
            scores = on_task.scores(on_task.params, splits, advance)
        files[part.file] = part_lines(part, list(on_task.predictions(splits, scores)))
    write_submission(submission, files)
    if filled:
        err.print(f"Filled with one answer for every row, as the server wants all files: {', '.join(filled)}.")
    out.print(str(submission))


def evaluate_mlm(opened: OpenModel, data: Path | None, batch_size: int | None, as_json: bool) -> None:
    """Print a masked-LM model's loss on the held-out part of token shards or HDF5 files, in nats per token.

    Of `data` without a held-out part, all rows are measured. By default the data is what the model's run validated on.

    Raises:
        RequestError: it is another model, or the shards are absent, altered, or not made for it.
    """
    from bigs_cli.checkpoints.resume import run_recipe
    from bigs_cli.commands.shared import check_tokenizer
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import to_json
    from bigs_cli.data.hdf5 import open_corpus
    from bigs_cli.data.loader import heldout_batches
    from bigs_cli.data.masking import MaskIds
    from bigs_cli.data.shards import Shards
    from bigs_cli.data.tokenizer import PUBLISHED_TOKENIZER
    from bigs_cli.data.validation_rows import Validation
    from bigs_cli.data.verify import verify
    from bigs_cli.evaluation.mlm import MaskedLMEvaluator, unigram_loss
    from bigs_cli.models.functional import make_apply
    from bigs_cli.models.published import to_tree
    from bigs_cli.recipe import PretrainRecipe
    from bigs_cli.recipe.schema import Compute, Masking
    from bigs_cli.reporting.console import err, out, progress, table

    config = opened.config
    if config.head != "masked-lm":
        raise RequestError(
            f"{opened.source} is a {config.head} model; mlm needs a masked-lm model, such as a pretraining run."
        )
    recipe = None if opened.run is None else run_recipe(opened.run.path)
    own = recipe if isinstance(recipe, PretrainRecipe) else None
    if data is None and own is None:
        raise RequestError("Name the token shards to measure on: bigs eval mlm --data DIR (made by bigs tokenize).")
    place = data or Path((own and (own.data.validation or own.data.path)) or "")
    shards = open_corpus(place, opened.tokenizer or PUBLISHED_TOKENIZER, err.print)
    check_tokenizer(opened.tokenizer, opened.source, shards)
    if data is None and own is not None and own.data.validation is None and not shards.has_split("heldout"):
        raise RequestError(
            f"{opened.source} was trained without validation: {place} has no held-out rows. Name other token shards to "
            "measure on: --data DIR"
        )
    with progress("verifying", shards.nbytes, "bytes") as advance:
        if isinstance(shards, Shards):
            verify(shards, advance=advance)
        else:
            shards.verify(advance)
    validation = Validation.of(shards)
    if (
        shards.manifest.vocab_size > config.vocab_size
        or shards.manifest.sequence_length > config.max_position_embeddings
    ):
        raise RequestError(
            f"The shards in {place} (vocabulary {shards.manifest.vocab_size}, length "
            f"{shards.manifest.sequence_length}) do not fit the model (vocabulary {config.vocab_size}, at most "
            f"{config.max_position_embeddings} tokens)."
        )
    masking, compute = Masking(), Compute()
    if own is not None:
        masking, compute, batch_size = own.masking, own.compute, batch_size or own.batch_size
    special = MaskIds.of(shards, masking, config.vocab_size) if isinstance(shards, Shards) else None
    evaluator = MaskedLMEvaluator(make_apply(config, compute), special, masking)
    batches = heldout_batches(shards, batch_size or 32, validation.split)
    with progress("validation", len(validation), "row") as advance:
        metrics = evaluator(to_tree(opened.flat, config), batches, advance)
    if validation.split == "heldout":
        metrics["unigram_loss"] = unigram_loss(shards, validation)
    else:
        err.print(f"No row of {place} is held out: all {len(validation):,} rows are measured.")
    if as_json:
        out.print(to_json({"task": "mlm", "model": opened.source, "metrics": metrics}, indent=2))
        return
    which = "validation rows" if validation.split == "heldout" else "all rows"
    made = table(
        f"Masked words, {which} of {Path(place).resolve().name}", "metric", "this model", right=("this model",)
    )
    made.add_row("validation loss (nats)", f"{metrics['loss']:.4f}")
    if "unigram_loss" in metrics:
        made.add_row("  from word frequencies alone", f"{metrics['unigram_loss']:.4f}")
    made.add_row("accuracy (%)", f"{100 * metrics['accuracy']:.2f}")
    made.add_row("perplexity", f"{metrics['perplexity']:,.1f}")
    made.add_row("words predicted", f"{metrics['predictions']:,.0f}")
    out.print(made)
