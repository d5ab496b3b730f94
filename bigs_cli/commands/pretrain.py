"""`bigs pretrain`."""

from __future__ import annotations

import shlex
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bigs_cli.commands import options as opt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bigs_cli.checkpoints.resolve import OpenModel
    from bigs_cli.checkpoints.run import RunFolder
    from bigs_cli.data.corpus import Corpus, Validation
    from bigs_cli.recipe import PretrainRecipe
    from bigs_cli.training.pretrain import PretrainResult

EPILOG = (
    "[bold]Example:[/bold] bigs pretrain --recipe small --data shards/wiki-128 --run runs/small "
    "--set steps=1500 --set optimizer.learning_rate=1e-3"
)


Data = Annotated[
    str | None,
    opt.source_option(
        "--data",
        metavar="PATH",
        help="Folder, or URL, of token shards or of the BiGS authors' HDF5 files.",
        show_default="the recipe's",
    ),
]
ValidationData = Annotated[
    str | None,
    opt.source_option(
        "--validation",
        help="Other shards to validate on: their held-out rows, or all rows if none are held out.",
        show_default="the held-out rows of --data",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="Time for the whole run, such as 60m or 2h: the speed is measured first, and the recipe's `steps` is set "
        "to the number that fits.",
        show_default="the recipe's budget; without one, its number of steps",
    ),
]


Push = Annotated[
    str | None,
    typer.Option("--push", metavar="OWNER/NAME", help="Push the final model to this private repository on the hub."),
]
PushEvery = Annotated[
    int | None,
    typer.Option(
        "--push-every",
        metavar="STEPS",
        min=1,
        help="Also push the checkpoints of these steps while training, each as a branch step-N.",
    ),
]


def pretrain(
    recipe: opt.Recipe = None,
    data: Data = None,
    validation: ValidationData = None,
    run: opt.Run = None,
    sets: opt.Sets = None,
    sweep: opt.Sweep = None,
    seeds: opt.Seeds = None,
    jobs: opt.Jobs = None,
    budget: Budget = None,
    start: opt.Start = None,
    teacher: opt.Teacher = None,
    push: Push = None,
    push_every: PushEvery = None,
    resume: opt.Resume = False,
    loggers: opt.Loggers = None,
    profile: opt.Profile = None,
    dry_run: opt.DryRun = False,
    as_json: opt.DryRunJson = False,
    mfu: opt.Mfu = None,
    coordinator: opt.Coordinator = None,
    process: opt.Process = None,
    processes: opt.Processes = None,
) -> None:
    """Pretrain a masked language model on token shards, or on the BiGS authors' HDF5 files with their stored masks.

    Ctrl-C saves and stops the run; --resume --run RUN continues it exactly where it stopped. If the shards have no
    held-out rows and --validation is not given, the run is not validated. Under Slurm (srun), Open MPI 4 (mpirun) and
    on TPU pods, processes find each other. Under other versions of mpirun, add --coordinator; elsewhere, start each
    process with --coordinator, --process and --processes. Prints the path of the run folder.

    With --from, the maximum length may differ from that of the start model: position embeddings are repeated for a
    larger length, as in wiki-books-4096, and truncated for a smaller one.
    """
    arguments, started = dict(locals()), time.perf_counter()
    from bigs_cli.checkpoints.sweep import is_sweep
    from bigs_cli.commands.shared import train_at_url
    from bigs_cli.commands.sweep import default_folder, train_sweep
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.paths import is_url

    if mfu is not None and not dry_run:
        raise RequestError("--mfu is for planned times. Add --dry-run, or leave it out.")
    if run is not None and is_url(run):
        train_at_url("pretrain", pretrain, arguments)
        return
    if sweep or (seeds or 1) > 1 or (resume and is_sweep(run or default_folder(recipe or "", has_axes=False))):
        train_sweep("pretrain", pretrain, arguments, recipe or "pretrain")
        return
    if push_every is not None and push is None:
        raise RequestError("--push-every needs a repository on the hub. Add --push OWNER/NAME.")
    if as_json and not dry_run:
        raise RequestError("--json prints what a run needs. Add --dry-run, or leave it out.")
    if jobs is not None:
        raise RequestError("--jobs is for several runs. Leave it out, or add --sweep KEY=A,B,… or --seeds N.")
    from bigs_cli.checkpoints.resume import (
        check_recipe,
        check_start,
        read_record,
        record_of,
        resume_command,
        sweep_command,
    )
    from bigs_cli.checkpoints.run import RunFolder, runs_root
    from bigs_cli.commands.shared import join_processes, lasting_name, open_and_announce, prepare_jax
    from bigs_cli.core.processes import is_main_process, synchronize
    from bigs_cli.reporting.loggers import check_loggers

    if run is None and recipe is None:
        raise RequestError(
            "Name the run to continue with --run RUN; `bigs runs list` lists them."
            if resume
            else "Name a recipe, as in --recipe small; `bigs recipes list` lists them."
        )
    folder = RunFolder(runs_root() / Path(recipe or "").stem if run is None else Path(run))
    changes = [*(sets or ()), *([] if budget is None else [f"budget={budget}"])]
    chosen = _load_recipe(folder, recipe, changes, teacher, resume)
    together = join_processes(coordinator, process, processes)
    if is_main_process():
        folder.check(resume)
    if resume:
        check_recipe(folder.path, recipe)
        if teacher is not None or not all(change.startswith("mesh.") for change in changes):
            raise RequestError(
                "A run is resumed with its own recipe; only mesh can change. Leave out --set, --budget and "
                "--teacher, or start a new run from it with --from."
            )
        if validation is not None and chosen.data.validation is None:
            raise RequestError(
                f"{folder.path} was started without --validation. Leave it out, or start a new run with --run "
                f"{folder.path}-2"
            )
    if loggers:
        chosen = chosen.model_copy(update={"loggers": tuple(loggers)})
    check_loggers(chosen.loggers)
    chosen = _with_data(chosen, data, validation)

    from bigs_cli.checkpoints.resolve import find_model

    if start is not None and resume:
        check_start(folder.path, lasting_name(find_model(start)), chosen)
    elif start is not None:
        chosen = chosen.model_copy(update={"from_": start})
    if dry_run:
        _dry_run(chosen, folder.path if resume else None, as_json, mfu)
        return
    _check_data(chosen.data.path, chosen.data.sequence_length)
    if not resume:
        models = {"from_": chosen.from_, "teacher": chosen.teacher}
        names = {key: lasting_name(find_model(name)) for key, name in models.items() if name is not None}
        chosen = chosen.model_copy(update=names)
    if push is not None:
        _check_push(push, push_every, chosen.checkpoint.every_steps)
    prepare_jax()

    from bigs_cli.core.devices import find_devices
    from bigs_cli.export.pushes import pushes
    from bigs_cli.reporting.console import err
    from bigs_cli.training.job import Job
    from bigs_cli.training.pretrain import pretrain as train

    find_devices()
    options = [*together]
    if resume:  # Changes to a resumed run are not saved in the run.
        options += [word for change in sets or () for word in ("--set", change)]
        options += [word for name in loggers or () for word in ("--logger", name)]
    options += [] if push is None else ["--push", push]
    options += [] if push_every is None else ["--push-every", str(push_every)]
    command = sweep_command() or resume_command("pretrain", folder.path, *options)
    record = record_of(chosen, read_record(folder.path).recipe if resume else recipe)
    job = Job(folder, record, command, resume, profile=profile, started=started)
    model, tokenizer = None, folder.path if resume else None
    if chosen.from_ is not None and job.needs_start:
        model = open_and_announce(chosen.from_)
        tokenizer = tokenizer or model.tokenizer
    shards, valid = _open_data(chosen, tokenizer, str(folder.path) if model is None else model.source)
    taught_by = None if chosen.teacher is None else _open_teacher(chosen.teacher, shards)
    pushing = push is not None and is_main_process()
    with pushes(folder.path, push or "", push_every, err.print) if pushing else nullcontext():
        result = train(chosen, shards, valid, job, model, taught_by)
    synchronize()  # The other processes wait for the pushes.
    _print_result(result, folder.path, chosen.model.hidden_size)


def _print_result(result: PretrainResult, run: Path, hidden_size: int) -> None:
    """Print the final loss and the next commands on stderr, and the path of the run on stdout."""
    from bigs_cli.checkpoints.resume import sweep_command
    from bigs_cli.core.places import place_of
    from bigs_cli.reporting.console import err, out

    loss = f": validation loss {result.heldout['loss']:.4f}" if result.heldout else ""
    err.print(f"Done in {result.seconds / 60:.1f} minutes{loss}.")
    settings = "--recipe sst2-small " if hidden_size < opt.SMALL else ""
    model = shlex.quote(place_of(run))
    evaluate = f"bigs eval mlm --model {model}   or   " if result.heldout else ""
    if sweep_command() is None:
        err.print(f"Next: {evaluate}bigs finetune sst2 {settings}--from {model}")
    out.print(place_of(run))


def _check_push(repo: str, every: int | None, checkpoint_every: int) -> None:
    """Check that checkpoints can be pushed.

    Raises:
        RequestError: there is no checkpoint at some of these steps, or the repository cannot be used.
        BigsError: the hub cannot be reached.
    """
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.hub import Destination, check_destination

    if every is not None and every % checkpoint_every:
        raise RequestError(
            f"--push-every {every}: checkpoints are written every {checkpoint_every} steps. Name a multiple of that, "
            f"or add --set checkpoint.every_steps={every}."
        )
    check_destination(Destination(repo))


def _load_recipe(
    folder: RunFolder, name: str | None, sets: Sequence[str], teacher: str | None, resume: bool
) -> PretrainRecipe:
    """Return the recipe called `name`, with the teacher that was named, or that of the run to be resumed.

    Raises:
        RequestError: it does not exist, is invalid, or is for fine-tuning.
    """
    from bigs_cli.checkpoints.resume import resume_command, run_recipe
    from bigs_cli.core.errors import RequestError
    from bigs_cli.recipe import PretrainRecipe, load_recipe

    if resume and (folder.is_run or name is None):
        folder.check(resume)
        chosen = run_recipe(folder.path, sets)
        problem = f"{folder.path} is a fine-tuning run. Continue it with `{resume_command('finetune', folder.path)}`"
    else:
        chosen = load_recipe(name or "", sets, {} if teacher is None else {"teacher": teacher})
        task = "" if isinstance(chosen, PretrainRecipe) else chosen.task
        problem = f"The recipe {name} is for fine-tuning. Use it with: bigs finetune {task} --recipe {name}"
    if not isinstance(chosen, PretrainRecipe):
        raise RequestError(problem)
    return chosen


def _with_data(recipe: PretrainRecipe, data: str | None, validation: str | None) -> PretrainRecipe:
    """Return the recipe with its folders replaced by `data` and `validation`, if given."""
    folders = {"path": data, "validation": validation}
    changes = {name: folder for name, folder in folders.items() if folder is not None}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=changes)})


def _check_data(place: str, length: int) -> None:
    """Raise RequestError if `place` has neither shards, finished or not, nor HDF5 files. URLs are downloaded."""
    from bigs_cli.commands.shared import download
    from bigs_cli.core.errors import RequestError
    from bigs_cli.data.corpus import holds_corpus

    if not holds_corpus(download(place)):
        raise RequestError(
            f"There are no token shards in {place}. Name them with --data, or create them with: bigs tokenize --input "
            f"wikimedia/wikipedia:20231101.en --length {length} --vocab google-bert/bert-large-uncased --output "
            f"{shlex.quote(place)}"
        )


def _open_data(recipe: PretrainRecipe, tokenizer: Path | None, owner: str) -> tuple[Corpus, Validation | None]:
    """Return the training and the validation data; `tokenizer` is that of the model or run called `owner`.

    Raises:
        RequestError: the data cannot be read, or was made with another tokenizer.
    """
    from bigs_cli.commands.shared import check_tokenizer, download
    from bigs_cli.data.corpus import find_validation, open_corpus
    from bigs_cli.data.tokenizer import PUBLISHED_TOKENIZER
    from bigs_cli.reporting.console import err

    shards = open_corpus(download(recipe.data.path), tokenizer or PUBLISHED_TOKENIZER, err.print)
    check_tokenizer(tokenizer, owner, shards)
    other = None
    if recipe.data.validation is not None:
        other = open_corpus(download(recipe.data.validation), shards.tokenizer(), err.print)
    validation = find_validation(shards, other)
    if validation is None:
        best = " (checkpoint.keep_best has no effect)" if recipe.checkpoint.keep_best else ""
        err.print(
            f"Training without validation{best}: {shards.folder} has no held-out rows. Use --validation to name other "
            "shards."
        )
    elif other is not None:
        err.print(f"Validating on {validation}.")
    return shards, validation


def _open_teacher(name: str, shards: Corpus) -> OpenModel:
    """Open the model to learn from.

    Raises:
        RequestError: it does not exist, or its tokenizer is not that of the shards.
    """
    from bigs_cli.commands.shared import check_tokenizer, open_and_announce

    teacher = open_and_announce(name, title="Teacher")
    check_tokenizer(teacher.tokenizer, teacher.source, shards)
    return teacher


def _dry_run(recipe: PretrainRecipe, run: Path | None, as_json: bool, mfu: float | None) -> None:
    """Print the recipe, sizes and, if there are shards, one of their rows; or only sizes, as JSON.

    `run` is the run to resume, and `mfu` the utilization to plan with. Nothing is written or downloaded, and
    the compilation cache is not used.
    """
    from bigs_cli.checkpoints.config_json import read_config
    from bigs_cli.checkpoints.folder import CONFIG, tokenizer_file
    from bigs_cli.checkpoints.resolve import find_model
    from bigs_cli.checkpoints.transfer import check_encoders
    from bigs_cli.core.accelerators import MFU
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import to_json
    from bigs_cli.core.paths import is_url
    from bigs_cli.recipe import dump_recipe
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.examples import print_examples
    from bigs_cli.training.dry_run import dry_run_pretrain
    from bigs_cli.training.pretrain import check_word_teacher

    model, tokenizer = None, run
    if recipe.from_ is not None and run is None:
        start = find_model(recipe.from_)
        err.print(f"Model: {start.why}")
        model = start.folder if start.run is None else start.run.path
        tokenizer = None if model is None else tokenizer_file(model)
    if model is not None and (model / CONFIG).is_file():
        check_encoders(read_config(model / CONFIG), recipe.model)
    if recipe.teacher is not None:
        teacher = find_model(recipe.teacher)
        err.print(f"Teacher: {teacher.why}")
        place = teacher.folder if teacher.run is None else teacher.run.path
        if place is not None and (place / CONFIG).is_file():
            check_word_teacher(read_config(place / CONFIG), recipe.teacher, recipe)
    shards = None
    if is_url(recipe.data.path):
        err.print("Data at a URL is not downloaded, so no masked row is shown.")
    else:
        try:
            _check_data(recipe.data.path, recipe.data.sequence_length)
        except RequestError as error:
            err.print(f"{error}\nWithout shards, no masked row is shown.")
        else:
            shards, _ = _open_data(recipe, tokenizer, str(run or model))
    needed = dry_run_pretrain(recipe, shards, mfu or MFU)
    if as_json:
        out.print(to_json(needed.values, indent=2))
        return
    out.print(dump_recipe(recipe))
    for part in needed.tables:
        out.print(part, "", sep="\n")
    if shards is not None:
        print_examples(shards, recipe.masking, 1, recipe.seed)
    err.print("Dry run: nothing was written. Leave out --dry-run to train.")
