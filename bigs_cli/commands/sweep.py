"""Several runs of a command that trains: `--sweep`, seeds of `bigs pretrain`, and the GLUE suite.

Each run is a call of the command itself.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import typer

from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.checkpoints.sweep import PLAN, TASK, Plan, Setting, finished_runs, is_sweep, parse_axes, read_plan
from bigs_cli.commands.custom_task import KEYS
from bigs_cli.commands.glue import SUITE, arguments_of, check_suite, is_suite, print_suite
from bigs_cli.commands.shared import join_processes
from bigs_cli.core import processes as group
from bigs_cli.core.errors import BigsError, RequestError, listed
from bigs_cli.core.files import check_writable, write_json
from bigs_cli.core.places import place_of
from bigs_cli.core.wording import counted

_PATHS = ("data", "validation")
"""Arguments of the commands that are paths."""
_FILES = ("train_file", "dev_file")
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
    from bigs_cli.checkpoints.run import runs_root
    from bigs_cli.reporting.console import err

    jobs = arguments.pop("jobs")
    together = join_processes(*(arguments.pop(key) for key in ("coordinator", "process", "processes")))
    given = {key: value for key, value in arguments.items() if value not in (None, False, [])}
    suite = is_suite(given.get("task"))
    for key in ("profile", "push", "as_json"):
        if key in given:
            raise RequestError(
                f"--{key.removeprefix('as_')} is for a single run. Leave it out, or name a single task and setting."
            )
    if jobs is not None and group.several():
        raise RequestError("--jobs starts processes on one machine. Leave it out to train with several machines.")
    default = runs_root() / (SUITE if suite else f"{Path(name).stem}-sweep")
    if given.pop("resume", False):
        if suite:
            given = {"run": str(default), **given}
            del given["task"]
        root, plan = _to_resume(command, given)
        _run(root, plan, call, jobs, together)
        return
    root = Path(given.pop("run", default))
    dry_run = given.pop("dry_run", False)
    plan = _new_plan(command, given.pop("sweep", []), given.pop("seeds", 1), given)
    if group.is_main_process():
        _check_new(root, plan)
    if dry_run:
        runs = [place_of(path) for setting in plan.settings for path, _ in _calls(plan, root, setting)]
        err.print(*runs, "Dry run: nothing was written. Leave out --dry-run to train.", sep="\n")
        return
    if group.is_main_process():
        write_json(root / PLAN, plan.model_dump(mode="json"))
    try:
        _run(root, plan, call, jobs, together)
    except RequestError:
        # An invalid request leaves nothing behind.
        if group.is_main_process() and [entry.name for entry in root.iterdir()] == [PLAN]:
            (root / PLAN).unlink()
            root.rmdir()
        raise


def _to_resume(command: str, given: dict[str, Any]) -> tuple[Path, Plan]:
    """Return the folder and the plan of the sweep that the arguments `given` with --resume name.

    Raises:
        RequestError: they name no sweep of this command, or have further options.
    """
    root = Path(given.pop("run")) if "run" in given else None
    if root is not None and (root / "suite.json").is_file():
        raise RequestError(
            f"The suite in {root} was started by an earlier version, which recorded it in another way. Start a new "
            f"one: --run {root}-2"
        )
    if root is None or not is_sweep(root):
        raise RequestError(
            f"{root or '--run'} is not the folder of a sweep or suite. To resume one, name its folder with --run; to "
            "resume a single run, leave out --sweep and --seeds."
        )
    if given:
        raise RequestError(f"{root} has its own options. Resume it with --resume and --run only.")
    plan = read_plan(root)
    if plan.command != command:
        raise RequestError(f"The sweep in {root} is one of bigs {plan.command}. Resume it with that command.")
    return root, plan


def _new_plan(command: str, sweep: list[str], seeds: int, arguments: dict[str, Any]) -> Plan:
    """Return the plan of a new sweep over the axes `sweep`.

    Raises:
        RequestError: an axis, one of its values, or the start model is invalid.
    """
    from bigs_cli.checkpoints.resolve import find_model
    from bigs_cli.checkpoints.resume import absolute
    from bigs_cli.commands.shared import lasting_name
    from bigs_cli.recipe import PretrainRecipe, is_recipe_file, load_recipe
    from bigs_cli.tasks import get_task

    if command == "pretrain" and "recipe" not in arguments:
        raise RequestError("Name a recipe, as in --recipe small; `bigs recipes list` lists them.")
    axes = parse_axes(sweep)
    if TASK in axes:
        raise RequestError(
            "--sweep task: scores of different tasks do not compare. For all of GLUE: bigs finetune glue"
        )
    for option, key in _OPTION_KEYS.items():
        if key in axes and option in arguments:
            raise RequestError(f"--sweep {key}: another option sets {key} for all runs. Leave one of them out.")
    if "files.dev" in axes:
        raise RequestError("--sweep files.dev: scores on different dev sets do not compare. Use one dev set.")

    kept = arguments | {key: absolute(arguments[key]) for key in (*_PATHS, *_FILES) if key in arguments}
    if is_recipe_file(kept.get("recipe", "")):
        kept["recipe"] = absolute(kept["recipe"])
    for option in ("start", "teacher"):
        if option in kept:
            kept[option] = absolute(lasting_name(find_model(kept[option])))
    task = kept.get("task", "custom")
    if is_suite(task):
        del kept["task"]
        return Plan(command=command, axes=((TASK, check_suite(kept)),), seeds=seeds, arguments=kept)
    plan = Plan(command=command, axes=tuple(axes.items()), seeds=seeds, arguments=kept)
    name = kept.get("recipe") or (task if task.lower() == "custom" else get_task(task).name)
    for setting in plan.settings:
        recipe = load_recipe(name, [*kept.get("sets", ()), *setting.sets], _options(kept))
        if isinstance(recipe, PretrainRecipe):
            _check_validation(kept.get("data", recipe.data.path), kept.get("validation", recipe.data.validation))
    return plan


def _options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe values of options on which the validity of other values depends."""
    return {key: arguments[key] for key in ("teacher",) if key in arguments}


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
        again = f"Continue the sweep in it with `{resume_command(plan.command, root)}`, or name"
        raise RequestError(
            f"The folder {root} is in use. {again if is_sweep(root) else 'Name'} another one: --run {root}-2"
        )
    check_writable(root, f"The folder {root}")


def _run(root: Path, plan: Plan, call: Callable[..., None], jobs: int | None, together: tuple[str, ...] = ()) -> None:
    """Run every setting that is not finished, and print the results; or with no `jobs`, print the commands that do.

    `together` are the options that connect several processes.
    """
    from bigs_cli.checkpoints.resume import resume_command
    from bigs_cli.evaluation.sweep import read_sweep
    from bigs_cli.reporting.console import err, out

    if jobs is not None and plan.is_suite:
        raise RequestError("Some GLUE tasks start from the run of another one, so --jobs does not apply. Leave it out.")
    if jobs is not None:
        commands = dict(_commands(plan, root, call))
        if jobs == 0:
            lines = [shlex.join(["bigs", *words, "--run", place_of(path)]) for path, words in commands.items()]
            out.print(*lines, sep="\n")
            err.print(f"When all have finished, compare them with: {resume_command(plan.command, root)}")
            return
        failed = _run_processes(commands, jobs)
    else:
        failed = _run_here(root, plan, call, resume_command(plan.command, root, *together))
        group.synchronize()
    repeat = resume_command(plan.command, root, *together)
    again = f"{counted(len(failed), 'run')} failed: {listed(failed)}. Repeat with: {repeat}"
    if failed and not any(finished_runs(root / setting.name) for setting in plan.settings):
        raise BigsError(again)
    if plan.is_suite:
        print_suite(root)
        best, verb = root, "eval glue"
    else:
        sweep = read_sweep(root)
        err.print(sweep.table(root.name), *sweep.notes(), sep="\n")
        best, verb = sweep.best.runs[0].path, "eval mlm" if sweep.task is None else "eval"
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
    from bigs_cli.checkpoints.resume import resumed_by
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
        for path, arguments in calls:
            if arguments is None:
                err.print(f"{place_of(path)} is finished.")
                continue
            out.quiet = True  # The result of the sweep is its own folder.
            try:
                with resumed_by(resume):
                    call(**arguments, run=str(path))
            except BigsError as error:
                # Other tasks may start from this run, and other processes may not have failed.
                if isinstance(error, RequestError) or plan.is_suite or group.several():
                    raise
                err.print(f"{path} failed: {error}")
                failed.append(str(path))
            finally:
                out.quiet = not group.is_main_process()
    return failed


def _run_processes(commands: dict[Path, list[str]], jobs: int) -> list[str]:
    """Run commands as processes, `jobs` at a time, which write to RUN.log; return the folders of those that failed.

    If there are GPUs, each process sees one of them.
    """
    from bigs_cli.reporting.console import err

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = len(list(Path("/dev").glob("nvidia[0-9]*")))
    gpus = (
        [str(number) for number in range(count)] if visible is None else [name for name in visible.split(",") if name]
    )
    free: SimpleQueue[dict[str, str]] = SimpleQueue()
    for job in range(jobs):
        free.put({"CUDA_VISIBLE_DEVICES": gpus[job % len(gpus)]} if gpus else {})

    def run(path: Path) -> int:
        environment = free.get()
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.with_name(f"{path.name}.log")
        err.print(f"{path} has started; its messages are in {log}")
        with log.open("w") as file:
            words = [sys.executable, "-m", "bigs_cli", *commands[path], "--run", str(path)]
            code = subprocess.run(words, stdout=file, stderr=file, env=os.environ | environment, check=False).returncode
        free.put(environment)
        err.print(f"{path} {'is finished' if code == 0 else f'failed with exit code {code}'}.")
        return code

    with ThreadPoolExecutor(jobs) as pool:
        return [str(path) for path, code in zip(commands, pool.map(run, commands), strict=True) if code]


def _commands(plan: Plan, root: Path, call: Callable[..., None]) -> Iterator[tuple[Path, list[str]]]:
    """Return the run folder and the command, without `bigs` and `--run`, of every call that is left."""
    command = typer.Typer()
    command.command()(call)
    parameters = typer.main.get_command(command).params
    for setting in plan.settings:
        for path, arguments in _calls(plan, root, setting):
            words = [plan.command]
            for parameter in parameters:
                value = (arguments or {}).get(parameter.name)
                if value is True:
                    words.append(parameter.opts[0])
                elif parameter.param_type_name == "argument":
                    words += [] if value is None else [str(value)]
                elif value:
                    values = value if isinstance(value, list) else [value]
                    words += [word for one in values for word in (parameter.opts[0], str(one))]
            if arguments is not None:
                yield path, words


def _calls(plan: Plan, root: Path, setting: Setting) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Return the run folder and the arguments of each call of the command for one setting; None: it is finished."""
    from bigs_cli.evaluation.seeds import SUMMARY
    from bigs_cli.recipe import load_recipe

    folder, arguments = root / setting.name, dict(plan.arguments)
    if setting.task is not None:
        arguments = arguments_of(setting.task, root, arguments)
    sets = (*arguments.get("sets", ()), *setting.sets)
    runs: dict[Path, dict[str, Any]] = {folder: {"sets": list(sets)}}
    if plan.command == "finetune":  # It trains with all seeds.
        runs[folder]["seeds"] = plan.seeds
    elif plan.seeds > 1:
        first = load_recipe(str(arguments["recipe"]), sets, _options(arguments)).seed
        seeds = range(first, first + plan.seeds)
        runs = {folder / f"seed-{seed}": {"sets": [*sets, f"seed={seed}"]} for seed in seeds}
    for path, own in runs.items():
        started = RunFolder(path).is_run or any(path.glob("seed-*/recipe.yaml"))
        seeds = own.get("seeds", 1)
        if len(finished_runs(path)) >= seeds and (seeds == 1 or (path / SUMMARY).is_file()):
            yield path, None
        else:
            yield path, {"resume": True} if started else arguments | own
