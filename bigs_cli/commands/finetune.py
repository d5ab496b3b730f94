"""`bigs finetune`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bigs_cli.commands import options as opt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from bigs_cli.checkpoints.resolve import OpenModel
    from bigs_cli.checkpoints.run import RunFolder
    from bigs_cli.recipe import BiGSConfig, FinetuneRecipe
    from bigs_cli.tasks.task import Task
    from bigs_cli.training.finetune import TaskData
    from bigs_cli.training.job import Job

TaskType = Literal["sequence-classification", "classification", "regression"]

EPILOG = """[bold]Examples:[/bold]

bigs finetune mrpc --from mnli --data glue --seeds 5

bigs finetune glue --from JunxiongWang/BiGS_512 --run runs/glue

bigs finetune --train reviews.csv --dev dev.csv --text review --label stars --from small"""


Data = Annotated[
    Path | None, opt.path_option("--data", help="Folder with the files of the task.", show_default="from the hub")
]
TaskRecipe = Annotated[
    str | None,
    opt.name_option(
        "--recipe",
        "-r",
        help="A recipe such as mrpc-128, or a file; for glue, a variant: 128, freeze, small.",
        show_default="the task's",
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        min=1,
        help="Train with this many seeds, each in RUN/seed-N, and report mean, standard deviation and best.",
        show_default="1",
    ),
]
FreezeSSM = Annotated[
    bool, typer.Option("--freeze-ssm", help="Do not train the SSM parameters; same as --set freeze_ssm=true.")
]
_CUSTOM = "Custom tasks"
TrainFile = Annotated[
    str | None,
    opt.name_option(
        "--train", metavar="FILE", help="Training set: CSV, TSV, JSONL or Parquet.", rich_help_panel=_CUSTOM
    ),
]
DevFile = Annotated[
    str | None,
    opt.name_option("--dev", metavar="FILE", help="Dev set with the columns of --train.", rich_help_panel=_CUSTOM),
]
TextColumn = Annotated[
    str | None,
    typer.Option("--text", metavar="COLUMN", help="Column of the text.", show_default="text", rich_help_panel=_CUSTOM),
]
PairColumn = Annotated[
    str | None,
    typer.Option(
        "--pair",
        metavar="COLUMN",
        help="Column of the second text of a pair.",
        show_default="single texts",
        rich_help_panel=_CUSTOM,
    ),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        "--label", metavar="COLUMN", help="Column of the class or score.", show_default="label", rich_help_panel=_CUSTOM
    ),
]
LabelType = Annotated[
    TaskType | None,
    typer.Option(
        "--task-type",
        help="Whether labels are classes or scores (classification is short for sequence-classification).",
        show_default="inferred from the labels",
        rich_help_panel=_CUSTOM,
    ),
]


def finetune(
    task: Annotated[
        str | None,
        typer.Argument(
            help="cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli, imdb, contract-nli, wikiann, squad, squad2, "
            "swag, codah, word-order; glue for all GLUE tasks; custom for your own.",
            show_default="custom with --train, else the recipe's",
        ),
    ] = None,
    start: opt.Start = None,
    data: Data = None,
    run: opt.Run = None,
    recipe: TaskRecipe = None,
    sets: opt.Sets = None,
    seeds: Seeds = None,
    freeze_ssm: FreezeSSM = False,
    train_file: TrainFile = None,
    dev_file: DevFile = None,
    text: TextColumn = None,
    pair: PairColumn = None,
    label: LabelColumn = None,
    task_type: LabelType = None,
    resume: opt.Resume = False,
    loggers: opt.Loggers = None,
    dry_run: opt.DryRun = False,
) -> None:
    """Fine-tune a model for a labelled task and keep its best checkpoint.

    The best checkpoint has the highest first metric of the task on the dev set, which is evaluated after every epoch or
    every evaluate_every steps. Ctrl-C saves and stops the run; --resume --run RUN continues it exactly where it
    stopped. Prints the path of the run folder.
    """
    from bigs_cli.core.errors import RequestError

    if resume and (sets or freeze_ssm):
        raise RequestError(
            "A run is resumed with its own recipe. Leave out --set, or start a new run with --from this one."
        )
    changes = [*(sets or ()), *(["freeze_ssm=true"] if freeze_ssm else [])]
    if loggers:
        changes.append(f"loggers=[{', '.join(loggers)}]")
    if _is_suite(task, run, resume):
        if dry_run:
            raise RequestError("--dry-run shows a single run. Name one task: bigs finetune cola --dry-run")
        _suite(start, data, run, recipe, changes, seeds, resume)
        return
    named = recipe is not None or any(change.startswith("files.") for change in changes)
    if dev_file is not None and train_file is None and not named and not resume:
        raise RequestError("--dev is the dev set of a custom task. Also name its training set with --train.")
    if task is None and train_file is None and not named and not (resume and run):
        raise RequestError("Name a task: bigs finetune TASK, or --train FILE --dev FILE for a custom task.")
    files = {"train": train_file, "dev": dev_file, "text": text, "pair": pair, "label": label, "task_type": task_type}
    _finetune(Request(task, recipe, start, data, run, seeds, tuple(changes), files, resume, dry_run))


@dataclass(frozen=True)
class Request:
    """The options of one task: `files` are those of a custom task, `changes` are as of --set."""

    task: str | None
    recipe: str | None
    start: str | None
    data: Path | None
    run: Path | None
    seeds: int | None
    changes: tuple[str, ...]
    files: dict[str, str | None]
    resume: bool
    dry_run: bool

    @property
    def is_custom(self) -> bool:
        """Whether the task is called custom."""
        return self.task is not None and self.task.lower() == "custom"


def _finetune(request: Request) -> None:
    """Train for one task, with one seed or several."""
    from bigs_cli.checkpoints.config_json import read_config
    from bigs_cli.checkpoints.folder import CONFIG
    from bigs_cli.checkpoints.resolve import find_model
    from bigs_cli.checkpoints.resume import RESUME, check_start, read_record, record_of, resume_command
    from bigs_cli.checkpoints.run import RunFolder, runs_root
    from bigs_cli.commands.resumed import count_seeds, first_begun
    from bigs_cli.commands.shared import lasting_name, open_and_announce, prepare_jax, tokenizer_of
    from bigs_cli.core.errors import RequestError
    from bigs_cli.data.tokenizer import load_tokenizer
    from bigs_cli.reporting.trackers import check_trackers
    from bigs_cli.tasks import get_task, task_of

    start, data, resume = request.start, request.data, request.resume
    wanted = None if request.task is None else "custom" if request.is_custom else get_task(request.task).name
    options = _custom_options(None if request.is_custom else request.task, request.files)
    name = request.recipe or wanted or "custom"
    train_file = None if request.recipe else request.files["train"]
    folder = RunFolder(request.run or runs_root() / Path(train_file or name).stem)
    count = count_seeds(folder, request.seeds) if resume else request.seeds or 1
    begun = first_begun(folder, count) if resume else None
    if begun is None:
        if count == 1 or resume or (folder.path / RESUME).is_file():
            folder.check(resume)
        chosen = _new_recipe(name, request, {**options, "task": "custom"} if request.is_custom else options, wanted)
    else:
        chosen = _saved_recipe(folder, begun, request)
    owner = f"The recipe {name}" if begun is None else f"The run {folder.path}"
    task = task_of(chosen)
    if wanted not in (None, task.name):
        raise RequestError(f"{owner} is for the task {chosen.task}, not {wanted}.")
    check_trackers(chosen.loggers)
    model_name = start or chosen.from_
    if model_name is None:
        raise RequestError(f"{owner} names no model to start from. Name one: --from MODEL")
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
    # A resumed run is only given other loggers, which it does not save.
    loggers = [word for name in chosen.loggers for word in ("--logger", name)] if resume and request.changes else []
    job = Job(folder, record, resume_command("finetune", folder.path, *loggers), resume)
    jobs = [job] if count == 1 else seed_jobs(job, chosen.seed)
    for each in jobs:
        each.folder.check(each.resume)
    examples = load_task_data(task, data, chosen.max_train_examples, chosen.seed)
    model = open_and_announce(model_name) if any(each.needs_start for each in jobs) else None
    # A resumed run keeps its tokenizer, even if the model that it started from has changed.
    tokenizer = tokenizer_of(model) if model is not None and begun is None else load_tokenizer((begun or folder).path)
    if request.dry_run:
        config = read_config((begun or folder).path / CONFIG) if model is None else model.config
        _dry_run(chosen, task, examples, config, tokenizer)
    else:
        _train(chosen, task, examples, model, tokenizer, job)


def _new_recipe(name: str, request: Request, options: dict[str, Any], wanted: str | None) -> FinetuneRecipe:
    """Return the recipe `name` of a new run; `wanted` is the task asked for.

    Raises:
        RequestError: it is for pretraining, or describes a custom task where a built-in one is wanted.
    """
    from bigs_cli.core.errors import RequestError
    from bigs_cli.recipe import FinetuneRecipe, load_recipe
    from bigs_cli.reporting.console import err
    from bigs_cli.tasks.custom import NAME, look_at

    recipe = load_recipe(name, request.changes, options)
    if not isinstance(recipe, FinetuneRecipe):
        raise RequestError(f"The recipe {name} is for pretraining: bigs pretrain --recipe {name}")
    if recipe.files is None:
        return recipe
    if wanted not in (None, "custom"):
        raise RequestError(
            f"{wanted} is a built-in task with its own files; `files` describes a custom task. Leave out `files`, or "
            "train for the custom task: bigs finetune custom"
        )
    files, reason = look_at(recipe.files)
    err.print(f"{files.train}, column {files.label}: {reason}")
    return recipe.model_copy(update={"task": NAME, "files": files})


def _saved_recipe(folder: RunFolder, begun: RunFolder, request: Request) -> FinetuneRecipe:
    """Return the recipe of the run to resume; of several seeds, `begun` is the first one's run.

    Raises:
        RequestError: other options contradict it.
    """
    from bigs_cli.checkpoints.resume import check_recipe
    from bigs_cli.commands.resumed import begun_recipe, check_files

    check_recipe(folder.path, request.recipe)
    recipe = begun_recipe(begun, request.changes, request.files["train"], request.files["dev"])
    given = {f"--{name.replace('_', '-')}": request.files[name] for name in ("text", "pair", "label", "task_type")}
    check_files(recipe, f"The run {folder.path}", given)
    return recipe


def _train(
    recipe: FinetuneRecipe, task: Task, data: TaskData, model: OpenModel | None, tokenizer: Tokenizer, job: Job
) -> None:
    """Train, with one seed or several, and print the results."""
    from bigs_cli.evaluation.predictions import scores_of_run
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
    """Print what would be trained from a model with this config, and the first example."""
    from bigs_cli.recipe import dump_recipe
    from bigs_cli.reporting.console import err, out
    from bigs_cli.training.dry_run import preview_finetune

    tables, example = preview_finetune(recipe, task, data.train, config, tokenizer)
    out.print(dump_recipe(recipe))
    for part in tables:
        out.print(part, "", sep="\n")
    out.print(example)
    err.print("Dry run: nothing was written. Leave out --dry-run to train.")


def _open(name: str) -> tuple[OpenModel, Tokenizer, str]:
    """Return the model, its tokenizer, and the name that finds it again later."""
    from bigs_cli.checkpoints.resolve import find_model
    from bigs_cli.commands.shared import lasting_name, open_and_announce, tokenizer_of

    lasting = lasting_name(find_model(name))
    model = open_and_announce(name)
    return model, tokenizer_of(model), lasting


def _is_suite(task: str | None, run: Path | None, resume: bool) -> bool:
    """Return whether all of GLUE is to be trained, or the run to resume is such a suite."""
    from bigs_cli.checkpoints.run import SUITE_PLAN

    return (task is not None and task.lower() == "glue") or (
        resume and task is None and run is not None and (run / SUITE_PLAN).is_file()
    )


def _custom_options(task: str | None, files: dict[str, str | None]) -> dict[str, Any]:
    """Return the recipe values that the options of a custom task set; `task` is the built-in task named, if any.

    Raises:
        RequestError: a built-in task is named too.
    """
    from bigs_cli.core.errors import RequestError

    given = {f"files.{name}": value for name, value in files.items() if value is not None}
    if not given:
        return {}
    if task is not None:
        option = f"--{next(iter(given)).removeprefix('files.').replace('_', '-')}"
        raise RequestError(f"{task} is a built-in task with its own files; {option} is for custom tasks.")
    # Classes that the recipe lists do not apply to scores.
    without = {"files.labels": None} if given.get("files.task_type") == "regression" else {}
    return {**given, **without, "task": "custom"}


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
    from bigs_cli.evaluation.suite import suite_notes, suite_table
    from bigs_cli.reporting.console import err, out

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
