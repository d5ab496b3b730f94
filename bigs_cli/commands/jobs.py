"""`--jobs`: the runs of a sweep as commands, several of which run at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import typer

from bigs_cli.reporting.console import err


def words_of(
    command: str, call: Callable[..., None], calls: Iterable[tuple[Path, dict[str, Any]]]
) -> Iterator[tuple[Path, list[str]]]:
    """Return the run folder and the words of the `command`, without `bigs` and `--run`, of each of the `calls`.

    `call` is the function of the command; the calls are run folders and its arguments.
    """
    typed = typer.Typer()
    typed.command()(call)
    parameters = typer.main.get_command(typed).params
    for path, arguments in calls:
        words = [command]
        for parameter in parameters:
            value = arguments.get(parameter.name or "")
            if value is True:
                words.append(parameter.opts[0])
            elif parameter.param_type_name == "argument":
                words += [] if value is None else [str(value)]
            elif value:
                values = value if isinstance(value, list) else [value]
                words += [word for one in values for word in (parameter.opts[0], str(one))]
        yield path, words


def run_processes(commands: dict[Path, list[str]], jobs: int) -> list[str]:
    """Run commands as processes, `jobs` at a time, which write to RUN.log; return the folders of those that failed.

    If there are GPUs, each process sees one of them.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = len(list(Path("/dev").glob("nvidia[0-9]*")))
    gpus = (
        [str(number) for number in range(count)] if visible is None else [name for name in visible.split(",") if name]
    )
    free: SimpleQueue[dict[str, str]] = SimpleQueue()
    for job in range(jobs):
        free.put({"CUDA_VISIBLE_DEVICES": gpus[job % len(gpus)]} if gpus else {})

    def run(path: Path) -> int:
        words = [sys.executable, "-m", "bigs_cli", *commands[path], "--run", str(path)]
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.with_name(f"{path.name}.log")
        environment = free.get()
        try:
            err.print(f"{path} has started; its messages are in {log}")
            with log.open("w") as file:
                code = subprocess.run(words, stdout=file, stderr=file, env=os.environ | environment).returncode
        finally:
            free.put(environment)  # The other commands wait for it.
        err.print(f"{path} {'is finished' if code == 0 else f'failed with exit code {code}'}.")
        return code

    with ThreadPoolExecutor(jobs) as pool:
        return [str(path) for path, code in zip(commands, pool.map(run, commands), strict=True) if code]
