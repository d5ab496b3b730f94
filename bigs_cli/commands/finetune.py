"""`bigs finetune`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bigs_cli.commands import custom_task as custom
from bigs_cli.commands import options as opt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokenizers import Tokenizer

    from bigs_cli.checkpoints.resolve import OpenModel
    from bigs_cli.checkpoints.run import RunFolder
    from bigs_cli.recipe import BiGSConfig, FinetuneRecipe
    from bigs_cli.tasks.task import Task
    from bigs_cli.training.finetune import TaskData
    from bigs_cli.training.job import Job

EPILOG = """[bold]Examples:[/bold]

bigs finetune mrpc --from mnli --data glue --seeds 5

bigs finetune glue --from JunxiongWang/BiGS_512 --run runs/glue

bigs finetune --train reviews.csv --dev dev.csv --text review --label stars --from bigs-128"""


Data = Annotated[str | None, opt.task_data_option("the hub")]
TaskRecipe = Annotated[
    str | None,
    opt.name_option(
        "--recipe",
        "-r",
        help="A shipped recipe such as mrpc-128, or a file. For glue, a variant: 128, freeze, small.",
        show_default="the task's",
    ),
]
FreezeSSM = Annotated[
    bool, typer.Option("--freeze-ssm", help="Do not train the SSM parameters; same as --set freeze_ssm=true.")
]


def finetune(
    task: Annotated[
        str | None,
        typer.Argument(
            help="cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli, imdb, contract-nli, wikiann, squad, squad2, "
            "swag, codah, word-order; glue for all GLUE tasks; custom for your own table.",
            show_default="custom with --train, else the recipe's",
        ),
    ] = None,
    start: opt.Start = None,
    data: Data = None,
    run: opt.Run = None,
    recipe: TaskRecipe = None,
    sets: opt.Sets = None,
    sweep: opt.Sweep = None,
    seeds: opt.Seeds = None,
    jobs: opt.Jobs = None,
    teacher: opt.Teacher = None,
    freeze_ssm: FreezeSSM = False,
    train_file: custom.TrainFile = None,
    dev_file: custom.DevFile = None,
    text: custom.TextColumn = None,
    pair: custom.PairColumn = None,
    label: custom.LabelColumn = None,
    task_type: custom.TaskTypeName = None,
    delimiter: custom.Delimiter = None,
    negative: custom.NegativeColumn = None,
    resume: opt.Resume = False,
    loggers: opt.Loggers = None,
    profile: opt.Profile = None,
    dry_run: opt.DryRun = False,
    coordinator: opt.Coordinator = None,
    process: opt.Process = None,
    processes: opt.Processes = None,
) -> None:
    """Fine-tune a model for a labelled task and keep its best checkpoint.

    The model is evaluated on the dev set after every epoch, or every evaluate_every steps. The best checkpoint is that
    with the highest value of the task's first metric. Ctrl-C saves and stops the run; --resume --run RUN continues it
    exactly where it stopped. Prints the path of the run folder.
    """
    arguments = dict(locals())
    from bigs_cli.checkpoints.sweep import is_sweep
    from bigs_cli.commands.glue import SUITE, is_suite
    from bigs_cli.commands.shared import join_processes, train_at_url
    from bigs_cli.commands.sweep import default_folder, train_sweep
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.paths import is_url
    from bigs_cli.tasks import get_task

    if run is not None and is_url(run):
        train_at_url("finetune", finetune, arguments)
        return
    suite = is_suite(task)
    if suite and sweep:
        raise RequestError("--sweep needs a single task. Name one: bigs finetune cola --sweep …")
    known = None if task is None or suite or custom.is_custom(task) else get_task(task).name
    name = SUITE if suite else recipe or train_file or known or "custom"
    place = default_folder(name, has_axes=False) if run is None else Path(run)
    if suite or sweep or (seeds or 1) > 1 or (resume and is_sweep(place)):
        train_sweep("finetune", finetune, arguments, name)
        return
    if jobs is not None:
        raise RequestError("--jobs is for several runs. Leave it out, or add --sweep KEY=A,B,… or --seeds N.")
    if resume and (sets or freeze_ssm or teacher):
        raise RequestError(
            "A run is resumed with its own recipe. Leave out --set, --freeze-ssm and --teacher, or start a new run "
            "from it with --from."
        )
    changes = [*(sets or ()), *(["freeze_ssm=true"] if freeze_ssm else [])]
    if loggers:
        changes.append(f"loggers=[{', '.join(loggers)}]")
    files = {key: arguments[name] for name, key in custom.KEYS.items()}
    has_recipe = recipe is not None or any(change.startswith("files.") for change in changes)
    if dev_file is not None and train_file is None and not has_recipe and not resume:
        raise RequestError("--dev is the dev set of a custom task. Also name its training set with --train.")
    if task is None and train_file is None and not has_recipe and not (resume and run):
        raise RequestError("Name a task: bigs finetune TASK, or --train FILE --dev FILE for a custom task.")
    from bigs_cli.checkpoints.config_json import read_config
    from bigs_cli.checkpoints.folder import CONFIG
    from bigs_cli.checkpoints.resolve import find_model
    from bigs_cli.checkpoints.resume import check_start, read_record, record_of, resume_command, sweep_command
    from bigs_cli.checkpoints.run import RunFolder
    from bigs_cli.commands.shared import download, lasting_name, open_and_announce, prepare_jax, tokenizer_of
    from bigs_cli.core.processes import is_main_process
    from bigs_cli.data.tokenizer import load_tokenizer
    from bigs_cli.reporting.loggers import check_loggers
    from bigs_cli.tasks import task_of

    together = join_processes(coordinator, process, processes)
    is_custom = custom.is_custom(task)
    options = custom.recipe_values(None if is_custom else task, files)
    options |= {} if teacher is None else {"teacher": teacher}
    options |= {"task": "custom"} if is_custom else {}
    task_name = "custom" if is_custom else known
    recipe_name = recipe or task_name or "custom"
    folder = RunFolder(place)
    if is_main_process():
        folder.check(resume)
    if resume:
        chosen = _recorded_recipe(folder, recipe, changes, files)
    else:
        chosen = _new_recipe(recipe_name, changes, options, task_name)
    owner = f"The run {folder.path}" if resume else f"The recipe {recipe_name}"
    chosen_task = task_of(chosen)
    if task_name not in (None, chosen_task.name):
        raise RequestError(f"{owner} is for the task {chosen.task}, not {task_name}. Leave out {task_name}.")
    check_loggers(chosen.loggers)
    model_name = start or chosen.from_
    if model_name is None:
        raise RequestError(f"{owner} names no model to start from. Name one with --from MODEL")
    if resume:
        check_start(folder.path, None if start is None else lasting_name(find_model(start)), chosen)
        recorded = read_record(folder.path)
        recipe_name, data = recorded.recipe, data or recorded.data
    else:
        models = {"from_": model_name, "teacher": chosen.teacher}
        names = {key: lasting_name(find_model(name)) for key, name in models.items() if name is not None}
        chosen = chosen.model_copy(update=names)
    prepare_jax()
    from bigs_cli.training.finetune import load_task_data
    from bigs_cli.training.job import Job
    from bigs_cli.training.teacher import with_teacher_scores

    record = record_of(chosen, recipe_name, data)
    # The only changes to a resumed run are its loggers, which are not saved in the run.
    repeated = [word for name in chosen.loggers for word in ("--logger", name)] if resume and changes else []
    command = sweep_command() or resume_command("finetune", folder.path, *together, *repeated)
    job = Job(folder, record, command, resume, profile=profile)
    folder_of_task = None if data is None else download(data)
    examples = load_task_data(chosen_task, folder_of_task, chosen.max_train_examples, chosen.seed)
    model = open_and_announce(model_name) if job.needs_start else None
    # A resumed run keeps its tokenizer, even if the model that it started from has changed.
    if model is not None and not resume:
        tokenizer = tokenizer_of(model)
        _suggest_recipe(chosen, model)
    else:
        tokenizer = load_tokenizer(folder.path)
    if dry_run:
        config = read_config(folder.path / CONFIG) if model is None else model.config
        _dry_run(chosen, chosen_task, examples, config, tokenizer)
        return
    if chosen.teacher is not None:
        opened = open_and_announce(chosen.teacher, title="Teacher")
        examples = with_teacher_scores(examples, chosen_task, opened, tokenizer_of(opened))
    _train(chosen, chosen_task, examples, model, tokenizer, job)


def _suggest_recipe(recipe: FinetuneRecipe, model: OpenModel) -> None:
    """Print the name of the recipe for small models if the learning rate is for large ones."""
    from bigs_cli.recipe.catalog import recipe_names
    from bigs_cli.reporting.console import err

    name = f"{recipe.task}-small"
    is_small = model.config.hidden_size < opt.SMALL
    if is_small and recipe.optimizer.learning_rate < 1e-4 and name in recipe_names("finetune"):
        err.print(
            f"The learning rate {recipe.optimizer.learning_rate:g} is for models of the published size; a small one "
            f"hardly learns with it. Use: --recipe {name}"
        )


def _new_recipe(name: str, changes: Sequence[str], options: dict[str, Any], task: str | None) -> FinetuneRecipe:
    """Return the recipe `name` of a new run; `task` is the name of the requested task.

    Raises:
        RequestError: it is for pretraining, or has `files` although a built-in task is requested.
    """
    from bigs_cli.core.errors import RequestError
    from bigs_cli.recipe import FinetuneRecipe, load_recipe
    from bigs_cli.reporting.console import err
    from bigs_cli.tasks.custom import NAME, infer_labels

    recipe = load_recipe(name, changes, options)
    if not isinstance(recipe, FinetuneRecipe):
        raise RequestError(f"The recipe {name} is for pretraining. Use it with: bigs pretrain --recipe {name}")
    if recipe.files is None:
        return recipe
    if task not in (None, "custom"):
        raise RequestError(
            f"{task} is a built-in task with its own files; `files` describes a custom task. Leave out `files`, or "
            "train for the custom task with: bigs finetune custom"
        )
    files, reason = infer_labels(recipe.files)
    where = f", column {files.label}" if files.objective is None else ""
    err.print(f"{files.train}{where}: {reason}")
    return recipe.model_copy(update={"task": NAME, "files": files})


def _recorded_recipe(
    folder: RunFolder, name: str | None, changes: Sequence[str], files: Mapping[str, str | None]
) -> FinetuneRecipe:
    """Return the recipe of the run to resume, with its training and dev set replaced by those of `files`, if given.

    Raises:
        RequestError: it is a pretraining run, or options of the command contradict its recipe.
    """
    from bigs_cli.checkpoints.resume import check_recipe, resume_command, run_recipe
    from bigs_cli.core.errors import RequestError
    from bigs_cli.recipe import FinetuneRecipe

    check_recipe(folder.path, name)
    recipe = run_recipe(folder.path, changes)
    if not isinstance(recipe, FinetuneRecipe):
        command = resume_command("pretrain", folder.path)
        raise RequestError(f"{folder.path} is a pretraining run. Continue it with `{command}`")
    # Files can have moved; their content is compared.
    moved = {key: files[key] for key in ("train", "dev") if files[key] is not None}
    if recipe.files is None:
        if moved:
            raise RequestError(
                f"{folder.path} was trained for {recipe.task}, a built-in task. Leave out --train and --dev."
            )
        return recipe
    for key, value in files.items():
        recorded, option = getattr(recipe.files, key) or "", custom.option_of(key)
        if value is None or key in moved or value.replace("sequence-", "") == recorded.replace("sequence-", ""):
            continue
        original = f"with {option} {recorded}" if recorded else f"without {option}"
        raise RequestError(
            f"The run {folder.path} was started {original}, not {value}. Leave out {option} to resume it."
        )
    return recipe.model_copy(update={"files": recipe.files.model_copy(update=moved)})


def _train(
    recipe: FinetuneRecipe, task: Task, data: TaskData, model: OpenModel | None, tokenizer: Tokenizer, job: Job
) -> None:
    """Train, and print the results."""
    from bigs_cli.checkpoints.resume import sweep_command
    from bigs_cli.core.places import place_of
    from bigs_cli.core.processes import is_main_process
    from bigs_cli.evaluation.predictions import scores_of_run
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.scores import scores_table
    from bigs_cli.training.finetune import finetune as train

    folder = job.folder.path
    result = train(recipe, task, data, model, tokenizer, job)
    if not is_main_process():  # Others may not have the files of the run.
        return
    scores = scores_of_run(task, job.folder)
    err.print(f"Done in {result['seconds'] / 60:.1f} minutes; best at step {result['step']:,}.")
    err.print(scores_table(task, scores), *scores.sentences(), sep="\n")
    if sweep_command() is None:
        err.print(f"Next: bigs eval --model {shlex.quote(place_of(folder))}")
    out.print(place_of(folder))


def _dry_run(recipe: FinetuneRecipe, task: Task, data: TaskData, config: BiGSConfig, tokenizer: Tokenizer) -> None:
    """Print the recipe, the sizes of the model with this config, and the first example."""
    from bigs_cli.recipe import dump_recipe
    from bigs_cli.reporting.console import err, out
    from bigs_cli.training.dry_run import dry_run_finetune

    needed, example = dry_run_finetune(recipe, task, data.train, config, tokenizer)
    out.print(dump_recipe(recipe))
    for part in needed.tables:
        out.print(part, "", sep="\n")
    out.print(example)
    err.print("Dry run: nothing was written. Leave out --dry-run to train.")
