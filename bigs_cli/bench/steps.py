"""Work that consists of several bigs commands, each in a process of its own; completed commands are not repeated."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from bigs_cli.core.errors import BigsError
from bigs_cli.data.manifest import UNFINISHED
from bigs_cli.reporting.console import err


@dataclass(frozen=True)
class Step:
    """One command; `result` is the file that it writes last, and `run` whether it trains in the folder of `result`."""

    arguments: list[str]
    result: Path
    run: bool = False

    @property
    def resumed(self) -> list[str]:
        """The arguments that continue the command after an interruption. A run is continued with its own recipe."""
        if self.run:
            return [self.arguments[0], "--run", str(self.result.parent), "--resume"]
        return [*self.arguments, "--resume"]


def run_step(step: Step) -> None:
    """Run the command of a step, or resume it if it was interrupted; do nothing if it is complete.

    Raises:
        BigsError: a signal stopped it.
        typer.Exit: it failed, with its exit code; its error is on stderr.
    """
    command = shlex.join(["bigs", *step.arguments])
    if step.result.is_file():
        err.print(f"already done: {command}", style="dim")
        return
    err.print(f"$ {command}", style="bold")
    started = any((step.result.parent / name).exists() for name in ("recipe.yaml", UNFINISHED))
    arguments = step.resumed if started else step.arguments
    _check(subprocess.run(_bigs(arguments), stdout=subprocess.DEVNULL, check=False), command)


def json_of(arguments: list[str]) -> Any:
    """Run a command with --json, and return the JSON that it prints.

    Raises:
        BigsError, typer.Exit: as `run_step`.
    """
    command = shlex.join(["bigs", *arguments])
    err.print(f"$ {command}", style="bold")
    process = subprocess.run(_bigs([*arguments, "--json"]), stdout=subprocess.PIPE, text=True, check=False)
    _check(process, command)
    return json.loads(process.stdout)


def _bigs(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "bigs_cli", *arguments]


def _check(process: subprocess.CompletedProcess[Any], command: str) -> None:
    if process.returncode < 0:
        raise BigsError(
            f"`{command}` was stopped by {signal.Signals(-process.returncode).name}, perhaps for lack of memory. "
            "Repeat the original command to continue."
        )
    if process.returncode:
        raise typer.Exit(process.returncode)
