"""Several runs of a command that trains: `--sweep`, `--seeds`, and the GLUE suite.

Each run is a call of the command itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bigs_cli.checkpoints.sweep import PLAN, TASK, Plan, Setting, combinations, is_sweep, parse_axes, read_plan
from bigs_cli.commands.custom_task import KEYS, is_custom, recipe_values
from bigs_cli.commands.glue import arguments_of, check_suite, is_suite, print_suite, recipe_name
from bigs_cli.commands.shared import join_processes
from bigs_cli.core import processes as group
from bigs_cli.core.errors import BigsError, RequestError, listed
from bigs_cli.core.files import check_writable, parse_json, write_json
from bigs_cli.core.places import place_of
from bigs_cli.core.wording import counted

_PATHS = ("data", "validation", "train_file", "dev_file")
"""Arguments of the commands that are paths, which can change when a sweep is resumed."""
_OPTION_KEYS = {
    "start": "from",
    "teacher": "teacher",
    "freeze_ssm": "freeze_ssm",
    "budget": "budget",
    "data": "data.path",
    "validation": "data.validation",
    **{name: f"files.{key}" for name, key in KEYS.items()},
}
"""Arguments of the commands → the recipe key that they set."""


def train_sweep(command: str, call: Callable[..., None], arguments: dict[str, Any], name: str) -> None:
    """Begin or resume a sweep of a command with these `arguments`, and print its results.

    `call` is the function of the command, and `name` what the default folder is called after.

    Raises:
        RequestError: the request is invalid; or a run is refused, and finished runs are kept.
    """
    from bigs_cli.checkpoints.resume import resume_command
    from bigs_cli.reporting.console import err

    jobs = arguments.pop("jobs")
    together = join_processes(*(arguments.pop(key) for key in ("coordinator", "process", "processes")))
    given = {key: value for key, value in arguments.items() if value not in (None, False, [])}
    for key in ("profile", "push", "as_json"):
        if key in given:
            raise RequestError(
                f"--{key.removeprefix('as_')} is for a single run. Leave it out, or name a single task and setting."
            )
    if jobs is not None and group.several():
        raise RequestError("--jobs starts processes on one machine. Leave it out to train with several machines.")
    resume, dry_run = given.pop("resume", False), given.pop("dry_run", False)
    root = Path(given.pop("run", default_folder(name, has_axes="sweep" in given)))
    if resume:
        before = _recorded_plan(root, command)
        plan = _resumed_plan(root, before, given)
    else:
        before = None
        plan = _new_plan(command, given.pop("sweep", []), given.pop("seeds", 1), given)
        if group.is_main_process():
            _check_new(root, plan)
    new = [path for path in (root, *root.parents) if not path.exists()]
    if dry_run:
        calls = [one for setting in plan.settings for one in _calls(plan, root, setting)]
        left = [(run, given) for run, given in calls if given is not None]
        for run, first in left[:1]:
            call(**first, dry_run=True, run=str(run))
        err.print(f"{counted(len(left), 'run')} to train:", *(place_of(run) for run, _ in left), sep="\n")
        return
    if group.is_main_process() and plan != before:
        write_json(root / PLAN, plan.model_dump(mode="json"))
    try:
        _run(root, plan, call, jobs, resume_command(command, root, *together))
    except RequestError:
        if group.is_main_process():  # An invalid request leaves nothing behind.
            _undo(root, plan, before, new)
        raise


def _undo(root: Path, plan: Plan, before: Plan | None, new: list[Path]) -> None:
    """Replace `plan` by the plan recorded `before`; or remove the `new` folders if nothing has been trained in them."""
    if before is not None and plan != before:
        write_json(root / PLAN, before.model_dump(mode="json"))
    elif before is None and [entry.name for entry in root.iterdir()] == [PLAN]:
        (root / PLAN).unlink()
        for path in new:
            path.rmdir()


def default_folder(name: str, *, has_axes: bool) -> Path:
    """Return the folder of a sweep that is called after `name`, a task, a recipe or a file."""
    from bigs_cli.checkpoints.run import runs_root

    return runs_root() / (f"{Path(name).stem}-sweep" if has_axes else Path(name).stem)


def _recorded_plan(root: Path, command: str) -> Plan:
    """Return the plan of the sweep in `root`, which is to be resumed.

    Raises:
        RequestError: it is not the folder of a sweep of this command.
    """
    if (root / "suite.json").is_file():
        raise RequestError(
            f"The suite in {root} was started by an earlier version, which recorded it in another way. Start a new "
            f"one: --run {root}-2"
        )
    if not is_sweep(root):
        raise RequestError(
            f"There is no sweep, suite or set of seeds to resume in {root}. Name its folder with --run; to resume a "
            "single run, leave out --sweep and --seeds."
        )
    plan = read_plan(root)
    if plan.command != command:
        raise RequestError(f"The sweep in {root} is one of bigs {plan.command}. Resume it with that command.")
    return plan


def _resumed_plan(root: Path, plan: Plan, given: dict[str, Any]) -> Plan:
    """Return the plan to resume: the recorded `plan` with more seeds, or data in another place, if `given`.

    Raises:
        RequestError: fewer seeds, or other options than recorded, are given.
    """
    seeds = given.pop("seeds", plan.seeds)
    if seeds != plan.seeds and (seeds < plan.seeds or plan.seeds == 1 or plan.is_suite):
        remedy = (
            "Leave out --seeds" if plan.seeds == 1 or plan.is_suite else "Leave out --seeds, or use a larger number"
        )
        raise RequestError(f"{root} was started with --seeds {plan.seeds}. {remedy}.")
    if is_suite(given.get("task")) and plan.is_suite:
        del given["task"]
    changed = {key: value for key, value in _lasting(given).items() if value != plan.arguments.get(key)}
    if not changed.keys() <= {*_PATHS} & plan.arguments.keys():
        raise RequestError(
            f"{root} has its own options. Resume it with --resume and --run only; the new place of its data, and a "
            "larger number of --seeds, can be named too."
        )
    return plan.model_copy(update={"seeds": seeds, "arguments": plan.arguments | changed})


def _lasting(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of the command with absolute paths, and models as in recipes."""
    from bigs_cli.checkpoints.resolve import find_model
    from bigs_cli.checkpoints.resume import absolute
    from bigs_cli.commands.shared import lasting_name
    from bigs_cli.recipe import is_recipe_file

    kept = arguments | {key: absolute(arguments[key]) for key in _PATHS if key in arguments}
    if is_recipe_file(kept.get("recipe", "")):
        kept["recipe"] = absolute(kept["recipe"])
    models = {
        option: absolute(lasting_name(find_model(kept[option]))) for option in ("start", "teacher") if option in kept
    }
    return kept | models


def _new_plan(command: str, sweep: list[str], seeds: int, arguments: dict[str, Any]) -> Plan:
    """Return the plan of a new sweep over the axes `sweep`.

    Raises:
        RequestError: an axis, one of its values, or the start model is invalid.
    """
    from bigs_cli.recipe import PretrainRecipe, load_recipe

    if command == "pretrain" and "recipe" not in arguments:
        raise RequestError("Name a recipe, as in --recipe small; `bigs recipes list` lists them.")
    axes = parse_axes(sweep)
    if "seed" in axes and seeds > 1:
        raise RequestError("--sweep seed and --seeds both set the seed. Leave one of them out.")
    if TASK in axes:
        raise RequestError(
            "--sweep task: scores of different tasks do not compare. For all of GLUE: bigs finetune glue"
        )
    for option, key in _OPTION_KEYS.items():
        if key in axes and option in arguments:
            raise RequestError(f"--sweep {key}: another option sets {key} for all runs. Leave one of them out.")
    if "files.dev" in axes:
        raise RequestError("--sweep files.dev: scores on different dev sets do not compare. Use one dev set.")

    kept = _lasting(arguments)
    if is_suite(kept.get("task")):
        del kept["task"]
        tasks = check_suite(kept)
        first = load_recipe(recipe_name(tasks[0], kept.get("recipe")), kept.get("sets", ())).seed
        return Plan(command=command, axes=((TASK, tasks),), seeds=seeds, first_seed=first, arguments=kept)
    first = 0
    for setting in combinations(axes):
        recipe = load_recipe(_recipe_of(kept), [*kept.get("sets", ()), *setting.sets], _options(kept))
        first = recipe.seed
        if isinstance(recipe, PretrainRecipe):
            validation = kept.get("validation", recipe.data.validation)
            if "data.path" in axes and validation is None:
                raise RequestError("--sweep data.path: name the shards to validate all runs on with --validation.")
            _check_validation(kept.get("data", recipe.data.path), validation)
    return Plan(command=command, axes=tuple(axes.items()), seeds=seeds, first_seed=first, arguments=kept)


def _recipe_of(arguments: Mapping[str, Any]) -> str:
    """Return the name of the recipe of the runs.

    Raises:
        RequestError: there is no such task.
    """
    from bigs_cli.tasks import get_task

    task = arguments.get("task", "custom")
    return arguments.get("recipe") or ("custom" if is_custom(task) else get_task(task).name)


def _options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe values of options on which the validity of other values depends."""
    task = arguments.get("task")
    files = recipe_values(None if is_custom(task) else task, {key: arguments.get(name) for name, key in KEYS.items()})
    return {**files, **{key: arguments[key] for key in ("teacher",) if key in arguments}}


def _check_validation(data: str, validation: str | None) -> None:
    """Check that the runs of a pretraining sweep can be compared.

    Raises:
        RequestError: there is nothing to validate on.
    """
    from bigs_cli.commands.shared import download
    from bigs_cli.data.manifest import MANIFEST
    from bigs_cli.data.shards import open_shards

    folder = download(data)
    if validation is None and (folder / MANIFEST).is_file() and not open_shards(folder).has_split("heldout"):
        raise RequestError(
            f"{data} has no held-out rows, so runs cannot be compared. Name other shards with --validation."
        )


def _check_new(root: Path, plan: Plan) -> None:
    """Check that a sweep can begin in the folder `root`.

    Raises:
        RequestError: it is in use or not writable.
    """
    from bigs_cli.checkpoints.resume import resume_command

    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        again = f"Continue the runs in it with `{resume_command(plan.command, root)}`, or name"
        raise RequestError(
            f"The folder {root} is in use. {again if is_sweep(root) else 'Name'} another one: --run {root}-2"
        )
    check_writable(root, f"The folder {root}")


def _run(root: Path, plan: Plan, call: Callable[..., None], jobs: int | None, repeat: str) -> None:
    """Run every setting that is not finished, and print the results; or with no `jobs`, print the commands that do.

    `repeat` is the command that resumes the sweep.
    """
    from bigs_cli.evaluation.seeds import SUMMARY
    from bigs_cli.evaluation.sweep import read_sweep
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.scores import seeds_table

    if jobs is not None and plan.is_suite:
        raise RequestError("Some GLUE tasks start from the run of another one, so --jobs does not apply. Leave it out.")
    if jobs is not None:
        from bigs_cli.commands.jobs import run_processes, words_of

        calls = [one for setting in plan.settings for one in _calls(plan, root, setting)]
        left = ((path, arguments) for path, arguments in calls if arguments is not None)
        commands = dict(words_of(plan.command, call, left))
        if jobs == 0:
            lines = [shlex.join(["bigs", *words, "--run", place_of(path)]) for path, words in commands.items()]
            out.print(*lines, sep="\n")
            err.print(f"When all have finished, compare them with: {repeat}")
            return
        failed = run_processes(commands, jobs)
        for setting in plan.settings:
            _summarize(plan, root, setting, repeat)
    else:
        failed = _run_here(root, plan, call, repeat)
        group.synchronize()
    again = f"{counted(len(failed), 'run')} failed: {listed(failed)}. Repeat with: {repeat}"
    if failed and not any(plan.finished_runs(root, setting) for setting in plan.settings):
        raise BigsError(again)
    if plan.is_suite:
        print_suite(root, err)
        best, verb = root, "eval glue"
    else:
        sweep = read_sweep(root)
        if plan.axes or sweep.task is None or failed:
            err.print(sweep.table(root.name), *sweep.notes(), sep="\n")
        else:
            summary = parse_json((root / SUMMARY).read_bytes())
            err.print(seeds_table(sweep.task, summary), *summary["notes"], sep="\n")
        best, verb = sweep.best_run.path, "eval mlm" if sweep.task is None else "eval"
    if failed:
        raise BigsError(again)
    err.print(f"Next: bigs {verb} --model {shlex.quote(place_of(best))}")
    out.print(place_of(root))


def _run_here(root: Path, plan: Plan, call: Callable[..., None], resume: str) -> list[str]:
    """Run every setting in this process; return the folders of the runs that failed, for example because they diverged.

    `resume` is the command that resumes the sweep.

    Raises:
        RequestError: a run is refused.
    """
    from bigs_cli.checkpoints.resume import part_of_sweep
    from bigs_cli.reporting.console import err, out

    failed = []
    for number, setting in enumerate(plan.settings):
        if plan.axes:
            kind, what = ("Task", setting.task) if setting.task else ("Setting", " ".join(setting.sets))
            err.print(f"{kind} {number + 1} of {len(plan.settings)}: {what}")
        # All processes look at the folder in the same state: between two runs.
        group.synchronize()
        calls = list(_calls(plan, root, setting))
        group.synchronize()
        for index, (path, arguments) in enumerate(calls):
            if arguments is None:
                err.print(f"{place_of(path)} is finished.")
                continue
            if plan.seeds > 1:
                err.print(f"Seed {index + 1} of {plan.seeds}: {place_of(path)}")
            out.quiet = True  # The result of the sweep is its own folder.
            try:
                with part_of_sweep(resume):
                    call(**arguments, run=str(path))
            except BigsError as error:
                # Other tasks may start from this run, and other processes may not have failed.
                if isinstance(error, RequestError) or plan.is_suite or group.several():
                    raise
                err.print(f"{path} failed: {error}")
                failed.append(str(path))
            finally:
                out.quiet = not group.is_main_process()
        _summarize(plan, root, setting, resume)
    return failed


def _summarize(plan: Plan, root: Path, setting: Setting, resume: str) -> None:
    """Write the summary of the seeds of a setting of fine-tuning, if all have finished.

    Raises:
        RequestError: as `summarize`.
    """
    from bigs_cli.evaluation.seeds import SUMMARY, summarize
    from bigs_cli.recipe import FinetuneRecipe, load_run_recipe
    from bigs_cli.tasks import task_of

    runs = plan.finished_runs(root, setting)
    if plan.seeds > 1 and len(runs) == plan.seeds:
        recipe = load_run_recipe(runs[0].recipe_file)
        if isinstance(recipe, FinetuneRecipe):
            summary = summarize(task_of(recipe), runs, resume)  # In all processes, so that errors end all of them.
            if group.is_main_process():
                write_json(root / setting.name / SUMMARY, summary)
    group.synchronize()  # Another task may start from the best seed.


def _calls(plan: Plan, root: Path, setting: Setting) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Return the run folder and the arguments of each call of the command for one setting; None: it is finished."""
    arguments = dict(plan.arguments)
    if setting.task is not None:
        arguments = arguments_of(setting.task, root, arguments)
    for run, seed in plan.runs(root, setting).items():
        sets = [*arguments.get("sets", ()), *setting.sets, *([] if seed is None else [f"seed={seed}"])]
        if run.finished:
            yield run.path, None
        elif run.is_run:
            yield run.path, {"resume": True} | {key: arguments[key] for key in _PATHS if key in arguments}
        else:
            yield run.path, arguments | {"sets": sets}
