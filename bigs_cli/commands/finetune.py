"""`bigs finetune`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bigs_cli.commands import local

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from bigs_cli.checkpoints.resolve import OpenModel
    from bigs_cli.recipe import BiGSConfig, FinetuneRecipe
    from bigs_cli.recipe.schema import TaskFiles
    from bigs_cli.tasks.task import Task
    from bigs_cli.training.finetune import TaskData
    from bigs_cli.training.job import Job

TaskType = Literal["sequence-classification", "classification", "regression"]

EPILOG = """[bold]Examples:[/bold]

bigs finetune mrpc --from mnli --data glue --seeds 5

bigs finetune glue --from JunxiongWang/BiGS_512 --run runs/glue

bigs finetune --train reviews.csv --dev dev.csv --text review --label stars --from small"""


def finetune(
    task: Annotated[
        str | None,
        typer.Argument(
            help="cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli, imdb, contract-nli, wikiann, squad, squad2, "
            "swag, codah, word-order; glue: all of its tasks; custom: one of your own.",
            show_default="that of --train, or of the recipe",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start from a run, folder, hub id or short name.",
            show_default="the recipe's",
            parser=local.name,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder with the task's files.", show_default="from the hub", parser=local.path),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", help="Folder of the run, with its results.", show_default="runs/RECIPE", parser=local.path
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            help="Another recipe than the task's own, such as mrpc-128; for glue: 128, freeze, small.",
            parser=local.name,
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe. Repeat it for more."),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            min=1,
            help="Train with so many seeds, each in RUN/seed-N, and report mean, spread and best.",
            show_default="1",
        ),
    ] = None,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Keep the state-space parameters as they are: --set freeze=true.")
    ] = False,
    train_file: Annotated[
        str | None,
        typer.Option(
            "--train",
            metavar="FILE",
            help="A task of your own: CSV, TSV, JSONL or Parquet to train on.",
            parser=local.name,
        ),
    ] = None,
    dev_file: Annotated[
        str | None, typer.Option("--dev", metavar="FILE", help="The same columns, to measure on.", parser=local.name)
    ] = None,
    text: Annotated[
        str | None,
        typer.Option("--text", metavar="COLUMN", help="Column of --train with the text.", show_default="text"),
    ] = None,
    pair: Annotated[
        str | None,
        typer.Option("--pair", metavar="COLUMN", help="Column with the second text.", show_default="single texts"),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="COLUMN", help="Column with the class or score.", show_default="label"),
    ] = None,
    task_type: Annotated[
        TaskType | None,
        typer.Option(
            "--task-type",
            help="Whether labels are classes or scores (classification: short for sequence-classification).",
            show_default="proposed from the labels",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --run; it knows its task, recipe, model and data.")
    ] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track", metavar="NAME", help="Send the figures to tensorboard or wandb too. Repeat it for both."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show the recipe in full, sizes, FLOPs, shardings and an example; train nothing."
        ),
    ] = False,
) -> None:
    """Train a model for a labelled task and keep its best checkpoint.

    Best is by the task's first metric on the dev set, measured after every epoch or every evaluate_every steps.
    Ctrl-C saves and stops; --resume --run RUN continues exactly where it stopped. Prints the path of the run folder.
    """
    from bigs_cli.core.errors import RequestError

    if resume and (sets or freeze):
        raise RequestError("A run is resumed with its own recipe: leave out --set, or start a new run --from this one.")
    changes = [*(sets or ()), *(["freeze=true"] if freeze else [])]
    if track:
        changes.append(f"track=[{', '.join(track)}]")
    files = {
        "files.train": train_file,
        "files.dev": dev_file,
        "files.text": text,
        "files.pair": pair,
        "files.label": label,
        "files.task_type": task_type,
    }
    own = task is not None and task.lower() == "custom"
    options = _own_options(None if own else task, {key: value for key, value in files.items() if value is not None})
    named = recipe is not None or any(change.startswith("files.") for change in changes)
    if dev_file is not None and train_file is None and not named and not resume:
        raise RequestError("--dev names the dev set of a task of your own; name its --train file too.")
    if task is None and train_file is None and not named and not (resume and run):
        raise RequestError("Say what to train for: bigs finetune TASK, or --train FILE --dev FILE for a task of yours.")
    if own:
        options["task"] = "custom"
    if _is_suite(task, run, resume):
        if dry_run:
            raise RequestError("--dry-run shows one run. Name one task: bigs finetune cola --dry-run")
        _suite(start, data, run, recipe, changes, seeds, resume)
        return

    from bigs_cli.checkpoints.resume import RESUME, check_recipe, check_start, read_record, record_of, resume_command
    from bigs_cli.checkpoints.run import RunFolder, runs_root
    from bigs_cli.commands.resumed import begun_recipe, check_files, count_seeds, first_begun
    from bigs_cli.recipe import FinetuneRecipe, load_recipe
    from bigs_cli.reporting.console import err
    from bigs_cli.reporting.trackers import check_trackers
    from bigs_cli.tasks import get_task, task_of

    wanted = None if task is None else "custom" if own else get_task(task).name
    name = recipe or wanted or "custom"
    folder = RunFolder(run or runs_root() / (Path(train_file).stem if train_file and not recipe else Path(name).stem))
    count = count_seeds(folder, seeds) if resume else seeds or 1
    begun = first_begun(folder, count) if resume else None
    if begun is None:
        if count == 1 or resume or (folder.path / RESUME).is_file():
            folder.check(resume)
        chosen, what = load_recipe(name, changes, options, err.print), f"The recipe {name}"
        if not isinstance(chosen, FinetuneRecipe):
            raise RequestError(f"{what} is for pretraining. Use it so: bigs pretrain --recipe {name}")
        if chosen.files is not None and wanted not in (None, "custom"):
            raise RequestError(
                f"{wanted} is a known task with files of its own; `files` are for one of yours. Leave them out, or "
                "train for yours: bigs finetune custom"
            )
        if chosen.files is not None:
            chosen = _with_labels(chosen, chosen.files)
    else:
        check_recipe(folder.path, recipe)
        chosen, what = begun_recipe(begun, changes, train_file, dev_file), f"The run {folder.path}"
        check_files(chosen, what, {"--text": text, "--pair": pair, "--label": label, "--task-type": task_type})
    chosen_task = task_of(chosen)
    if wanted not in (None, chosen_task.name):
        raise RequestError(f"{what} is for the task {chosen.task}, not {wanted}.")
    check_trackers(chosen.track)
    model_name = start or chosen.from_
    if model_name is None:
        raise RequestError(f"{what} names no model to start from. Name one: --from MODEL")
    from bigs_cli.checkpoints.config_json import read_config
    from bigs_cli.checkpoints.folder import CONFIG
    from bigs_cli.checkpoints.resolve import find_model
    from bigs_cli.commands.shared import lasting_name, open_and_announce, prepare_jax, tokenizer_of
    from bigs_cli.data.tokenizer import load_tokenizer

    recorded = read_record(folder.path)
    if begun is None:
        chosen = chosen.model_copy(update={"from_": lasting_name(find_model(model_name))})
        recorded = recorded.model_copy(update={"recipe": name})
    else:
        check_start(folder.path, None if start is None else lasting_name(find_model(start)), chosen)
        data = data or (None if recorded.data is None else Path(recorded.data))
    prepare_jax()
    from bigs_cli.training.finetune import load_task_data
    from bigs_cli.training.job import Job, seed_jobs

    record = record_of(chosen, recorded.recipe, data).model_copy(update={"seeds": count})
    tracked = [word for tracker in track or () for word in ("--track", tracker)] if resume else []
    job = Job(folder, record, resume_command("finetune", folder.path, *tracked), resume)
    jobs = [job] if count == 1 else seed_jobs(job, chosen.seed)
    for each in jobs:
        each.folder.check(each.resume)
    examples = load_task_data(chosen_task, data, chosen.max_train_examples, chosen.seed)
    model = open_and_announce(model_name) if any(each.needs_start for each in jobs) else None
    # A run that is resumed reads texts as it did before, whatever became of the model it started from.
    tokenizer = tokenizer_of(model) if model is not None and begun is None else load_tokenizer((begun or folder).path)
    if dry_run:
        config = read_config((begun or folder).path / CONFIG) if model is None else model.config
        _dry_run(chosen, chosen_task, examples, config, tokenizer)
    else:
        _train(chosen, chosen_task, examples, model, tokenizer, job)


def _train(
    recipe: FinetuneRecipe, task: Task, data: TaskData, model: OpenModel | None, tokenizer: Tokenizer, job: Job
) -> None:
    """Train, with one seed or several, and print what came of it."""
    from bigs_cli.evaluation.baselines import scores_of_run
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.scores import scores_table, seeds_table
    from bigs_cli.training.finetune import finetune as train
    from bigs_cli.training.seeds import finetune_seeds

    folder = job.folder.path
    if job.record.seeds > 1:
        summary = finetune_seeds(recipe, task, data, model, tokenizer, job)
        err.print(f"Done in {summary['seconds'] / 60:.1f} minutes; the best is {folder}/{summary['best']}.")
        err.print(seeds_table(task, summary), *summary["notes"], sep="\n")
        best = folder / summary["best"]
    else:
        result = train(recipe, task, data, model, tokenizer, job)
        scores = scores_of_run(task, job.folder)
        err.print(f"Done in {result['seconds'] / 60:.1f} minutes; best at step {result['step']:,}.")
        err.print(scores_table(task, scores), *scores.sentences(), sep="\n")
        best = folder
    err.print(f"Next: bigs eval --model {shlex.quote(str(best))}")
    out.print(str(folder))


def _dry_run(recipe: FinetuneRecipe, task: Task, data: TaskData, config: BiGSConfig, tokenizer: Tokenizer) -> None:
    """Print what would be trained from a model of that config, and the first example."""
    from bigs_cli.recipe import dump_recipe
    from bigs_cli.reporting.console import err, out
    from bigs_cli.training.dry_run import preview_finetune

    tables, example = preview_finetune(recipe, task, data.train, config, tokenizer)
    out.print(dump_recipe(recipe))
    for part in tables:
        out.print(part, "", sep="\n")
    out.print(example)
    err.print("A dry run: there is no run folder. Leave out --dry-run to train.")


def _open(name: str) -> tuple[OpenModel, Tokenizer, str]:
    """Return the model, its tokenizer, and the name that finds it again later."""
    from bigs_cli.checkpoints.resolve import find_model
    from bigs_cli.commands.shared import lasting_name, open_and_announce, tokenizer_of

    lasting = lasting_name(find_model(name))
    model = open_and_announce(name)
    return model, tokenizer_of(model), lasting


def _is_suite(task: str | None, run: Path | None, resume: bool) -> bool:
    """Return whether all of GLUE is asked for, or the run to be resumed is of all of it."""
    from bigs_cli.checkpoints.run import SUITE_PLAN

    return (task is not None and task.lower() == "glue") or (
        resume and task is None and run is not None and (run / SUITE_PLAN).is_file()
    )


def _own_options(task: str | None, files: dict[str, Any]) -> dict[str, Any]:
    """Return what the options for a task of one's own set in a recipe; `task` is a known one, None if none is named."""
    from bigs_cli.core.errors import RequestError

    if not files:
        return {}
    if task is not None:
        option = f"--{next(iter(files)).removeprefix('files.').replace('_', '-')}"
        raise RequestError(
            f"{task} is a known task with files of its own; {option} is for one of yours. Leave one out."
        )
    # Classes that the recipe lists are not meant for scores.
    without = {"files.labels": None} if files.get("files.task_type") == "regression" else {}
    return {**files, **without, "task": "custom"}


def _with_labels(recipe: FinetuneRecipe, files: TaskFiles) -> FinetuneRecipe:
    """Return the recipe for a task of one's own, its task type and classes known, and say what they are and why."""
    from bigs_cli.reporting.console import err
    from bigs_cli.tasks.custom import NAME, look_at

    files, what = look_at(files)
    err.print(f"{files.train}, column {files.label}: {what}")
    return recipe.model_copy(update={"task": NAME, "files": files})


def _suite(
    start: str | None,
    data: Path | None,
    run: Path | None,
    variant: str | None,
    sets: Sequence[str],
    seeds: int | None,
    resume: bool,
) -> None:
    from bigs_cli.checkpoints.resolve import find_model
    from bigs_cli.checkpoints.resume import absolute
    from bigs_cli.checkpoints.run import runs_root
    from bigs_cli.commands.shared import lasting_name, prepare_jax
    from bigs_cli.core.errors import RequestError
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.suite import suite_notes, suite_table

    prepare_jax()
    from bigs_cli.evaluation.suite import suite_lines
    from bigs_cli.training.suite import SUITE, SuitePlan, begin_suite, finetune_suite, resumed_plan

    root = run or runs_root() / SUITE
    model = None if start is None else lasting_name(find_model(start))
    folder = None if data is None else str(data)
    if resume:
        plan = resumed_plan(root, model, folder, variant, seeds)
    elif model is None:
        raise RequestError("Name the pretrained model to start from: bigs finetune glue --from MODEL")
    else:
        plan = SuitePlan(absolute(model), None if data is None else absolute(data), variant, tuple(sets), seeds or 1)
        begin_suite(root, plan)
    finetune_suite(plan, _open, root, resume)
    lines = suite_lines(root)
    err.print(suite_table(lines, f"GLUE, {root.resolve().name}, in percent"), *suite_notes(lines), sep="\n")
    err.print(f"Next: bigs eval glue --model {shlex.quote(str(root))}")
    out.print(str(root))
