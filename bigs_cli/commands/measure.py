"""The evaluations of `bigs eval`: a task, the GLUE suite, held-out text."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from bigs_cli.checkpoints.resolve import OpenModel
    from bigs_cli.data.corpus import Corpus
    from bigs_cli.evaluation.task import Settings
    from bigs_cli.recipe import PretrainRecipe
    from bigs_cli.reporting.console import Format
    from bigs_cli.tasks.task import Task


def evaluate_task(
    opened: OpenModel,
    task: Task,
    settings: Settings,
    split: str | None,
    predictions: Path | None,
    as_json: bool,
) -> None:
    """Print a model's metrics on the dev splits of `task`, or on `split`, and write its predictions to `predictions`.

    In the JSON output, `metrics` has the metrics of the first split and `splits` those of every evaluated split, all as
    fractions.

    Raises:
        RequestError: the model does not fit the task, a split cannot be read, or it has no labels and `predictions` is
            None.
    """
    from bigs_cli.commands.shared import tokenizer_of
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import to_json, write_lines
    from bigs_cli.core.metric_names import with_splits
    from bigs_cli.core.processes import is_main_process
    from bigs_cli.evaluation.predictions import scores_of
    from bigs_cli.evaluation.task import ModelOnTask
    from bigs_cli.reporting.console import err, out, progress, warn_of_trimming
    from bigs_cli.reporting.scores import scores_table

    warn_of_trimming(opened.config, settings.trim)
    model = ModelOnTask(opened, tokenizer_of(opened), task, settings)
    splits = model.splits([split] if split else [])
    labelled = all(each.examples.labelled for each in splits)
    if not labelled and predictions is None:
        raise RequestError(
            f"The {split} split of {task.title} has no labels, so there are no metrics. To write predictions instead, "
            "add --predictions FILE"
        )
    metrics: dict[str, dict[str, float]] = {}
    with progress(task.title, sum(len(each.inputs) for each in splits), "example") as advance:
        if labelled:
            metrics, scores = model.measure(model.params, splits, advance)
        else:
            scores = model.scores(model.params, splits, advance)
    if labelled:
        lines = model.predictions(splits, scores)
        answers = [{key: value for key, value in line.items() if key != "scores"} for line in lines]
        result = scores_of(task, metrics, answers)
        if as_json:
            baselines = {name: dict(baseline.metrics) for name, baseline in result.baselines.items()}
            record = {"task": task.name, "model": opened.source, **with_splits(metrics), "baselines": baselines}
            out.print(to_json(record, indent=2))
        else:
            out.print(scores_table(task, result))
        for sentence in result.notes if as_json else result.sentences():
            err.print(sentence)
    elif as_json:
        record = {"task": task.name, "model": opened.source, "split": split, "metrics": {}, "splits": {}}
        out.print(to_json(record, indent=2))
    if predictions is not None and is_main_process():  # Last: if the disk is full, the metrics have been printed.
        write_lines(predictions, model.predictions(splits, scores))
        err.print(f"Wrote the predictions to {predictions}.")


def evaluate_suite(
    model: str | None,
    data: Path | None,
    form: Format,
    submission: Path | None,
    batch_size: int | None,
) -> None:
    """Print the scores of the runs of a suite, whose folder or name is `model`, or write the `submission`.

    Raises:
        RequestError: there is no finished run, or a file of a run is corrupt.
        BigsError: a test set differs from the official one, so the server would reject the submission.
    """
    from bigs_cli.checkpoints.run import runs_root
    from bigs_cli.commands.glue import print_suite
    from bigs_cli.commands.shared import download
    from bigs_cli.core.paths import is_url
    from bigs_cli.reporting.console import out

    if model is not None and is_url(model):
        root = download(model)
    else:
        root = Path(model) if model and Path(model).is_dir() else runs_root() / (model or "glue")
    if submission is None:
        print_suite(root, out, form)
    else:
        _submit(root, data, submission, batch_size)


def _submit(root: Path, data: Path | None, submission: Path, batch_size: int | None) -> None:
    """Predict the test sets and write the zip file; a file without a run or test set is filled with one answer."""
    from bigs_cli.commands.shared import open_and_announce, prepare_jax, tokenizer_of
    from bigs_cli.core.processes import is_main_process
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
        run, task = runs.get(part.model_task), TASKS[part.task]
        if run is None:
            files[part.file] = part_lines(part, None)
            filled.append(part.file)
            continue
        opened = open_and_announce(str(run.path))
        settings = settings_for(opened, task, data, None, batch_size)
        if part.split not in available_splits(task, settings.data):
            err.print(f"There is no {part.split} set of {task.title} in {settings.data}.")
            files[part.file] = part_lines(part, None)
            filled.append(part.file)
            continue
        on_task = ModelOnTask(opened, tokenizer_of(opened), task, settings)
        splits = on_task.splits([part.split])
        with progress(part.file, len(splits[0].inputs), "example") as advance:
            scores = on_task.scores(on_task.params, splits, advance)
        files[part.file] = part_lines(part, list(on_task.predictions(splits, scores)))
    if is_main_process():
        write_submission(submission, files)
    if filled:
        err.print(f"Filled with a constant answer, because the server requires all files: {', '.join(filled)}.")
    out.print(str(submission))


def evaluate_mlm(opened: OpenModel, data: Path | None, batch_size: int | None, as_json: bool) -> None:
    """Print a model's masked-language-model loss on the held-out rows of token shards or HDF5 files, in nats per token.

    By default, the data is the validation data of the model's run. If no rows are held out, all rows are used.

    Raises:
        RequestError: the model is not a masked language model, or the shards are missing, corrupt, or do not fit it.
    """
    from bigs_cli.checkpoints.resume import run_recipe
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import to_json
    from bigs_cli.data.corpus import Validation
    from bigs_cli.data.loader import heldout_batches
    from bigs_cli.evaluation.mlm import MaskedLMEvaluator, unigram_loss
    from bigs_cli.models.functional import make_apply
    from bigs_cli.models.published import to_tree
    from bigs_cli.models.sharding import all_devices, replicate, split_rows
    from bigs_cli.recipe import PretrainRecipe
    from bigs_cli.reporting.console import err, out, progress

    config = opened.config
    if config.head != "masked-lm":
        raise RequestError(
            f"{opened.source} is a {config.head} model; mlm needs a masked-lm model, such as a pretraining run."
        )
    run = None if opened.run is None else run_recipe(opened.run.path)
    recipe = run if isinstance(run, PretrainRecipe) else None
    shards = _mlm_shards(opened, recipe, data)
    validation = Validation.of(shards)
    if recipe is not None:
        batch_size = batch_size or recipe.batch_size
    mesh = all_devices()
    apply = make_apply(config, opened.compute)
    evaluator = MaskedLMEvaluator(apply, shards, config.vocab_size, partial(split_rows, mesh=mesh))
    batches = heldout_batches(validation.rows, batch_size or 32)
    with progress("validation", len(validation), "row") as advance:
        metrics = evaluator(replicate(to_tree(opened.flat, config), mesh), batches, advance)
    if validation.split == "heldout":
        metrics["unigram_loss"] = unigram_loss(shards, validation)
    else:
        err.print(f"{shards.folder} has no held-out rows; all {len(validation):,} rows are used.")
    if as_json:
        out.print(to_json({"task": "mlm", "model": opened.source, "metrics": metrics}, indent=2))
        return
    rows = "validation rows" if validation.split == "heldout" else "all rows"
    out.print(_mlm_table(f"Masked tokens, {rows} of {shards.folder.resolve().name}", metrics))


def _mlm_shards(opened: OpenModel, recipe: PretrainRecipe | None, data: Path | None) -> Corpus:
    """Return the verified shards of `evaluate_mlm`: those in `data`, else the validation data of the recipe.

    Raises:
        RequestError: they are missing, corrupt, or do not fit the model.
    """
    from bigs_cli.commands.shared import check_tokenizer, download
    from bigs_cli.core.errors import RequestError
    from bigs_cli.data.corpus import open_corpus
    from bigs_cli.data.tokenizer import PUBLISHED_TOKENIZER
    from bigs_cli.reporting.console import err, progress

    if data is None and recipe is None:
        raise RequestError("Name the token shards (made by bigs tokenize) to evaluate on: bigs eval mlm --data DIR")
    folder = data or download((recipe and (recipe.data.validation or recipe.data.path)) or "")
    shards = open_corpus(folder, opened.tokenizer or PUBLISHED_TOKENIZER, err.print)
    check_tokenizer(opened.tokenizer, opened.source, shards)
    if data is None and recipe is not None and recipe.data.validation is None and not shards.has_split("heldout"):
        raise RequestError(
            f"{opened.source} was trained without validation: {folder} has no held-out rows. Name other token shards "
            "with --data DIR"
        )
    with progress("verifying", shards.nbytes, "bytes") as advance:
        shards.verify(advance)
    manifest, config = shards.manifest, opened.config
    if manifest.vocab_size > config.vocab_size or manifest.sequence_length > config.max_position_embeddings:
        raise RequestError(
            f"The shards in {folder} (vocabulary {manifest.vocab_size}, length {manifest.sequence_length}) do not fit "
            f"the model (vocabulary {config.vocab_size}, at most {config.max_position_embeddings} tokens). Tokenize "
            "the text again for this model."
        )
    return shards


def _mlm_table(title: str, metrics: dict[str, float]) -> Table:
    from bigs_cli.reporting.console import table

    rows = table(title, "metric", "this model", right=("this model",))
    rows.add_row("validation loss (nats)", f"{metrics['loss']:.4f}")
    if "unigram_loss" in metrics:
        rows.add_row("  from token frequencies alone", f"{metrics['unigram_loss']:.4f}")
    rows.add_row("accuracy (%)", f"{100 * metrics['accuracy']:.2f}")
    rows.add_row("perplexity", f"{metrics['perplexity']:,.1f}")
    rows.add_row("nats per masked character", f"{metrics['nats_per_character']:.4f}")
    rows.add_row("tokens predicted", f"{metrics['predictions']:,.0f}")
    return rows
