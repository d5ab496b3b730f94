"""Pushing the checkpoints of a run to the hub while it is trained."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bigs_cli.checkpoints.checksums import steps
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import BigsError
from bigs_cli.core.hub import branches_of

_SECONDS = 1.0


@contextmanager
def pushes(run: Path, repo: str, every: int | None, say: Callable[[str], object]) -> Iterator[None]:
    """Push the checkpoint of each `every`-th step of a run to a branch of `repo`, and the final model to the main one.

    The former are pushed in a thread; `say` is called with a message about each. Steps that have a branch are left out.

    Raises:
        BigsError: the hub cannot be reached, or the final model could not be pushed.
    """
    stop, done = threading.Event(), branches_of(repo)

    def push_new() -> None:
        for step in steps(run / "checkpoints"):
            branch = f"step-{step}"
            if every is not None and step % every == 0 and branch not in done:
                done.add(branch)
                problem = _export(f"{run}@{step}", repo, branch)
                say(f"Step {step:,} could not be pushed: {problem}" if problem else f"Pushed step {step:,} to {repo}.")

    def watch() -> None:
        while not stop.wait(_SECONDS):
            push_new()

    thread = threading.Thread(target=watch, name="push", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    push_new()
    if RunFolder(run).finished:
        if problem := _export(str(run), repo, None):
            raise BigsError(f"The run is complete, but its model could not be pushed. {problem}")
        say(f"Pushed the final model to {repo}.")


def _export(model: str, repo: str, branch: str | None) -> str | None:
    """Export a model and push it; return the error message, or None.

    This is a process of its own, on the CPU, so that the devices keep their memory for training.
    """
    with tempfile.TemporaryDirectory(prefix="bigs-") as folder:
        words = ["export", "--model", model, "--output", str(Path(folder) / "model"), "--push", repo]
        words += [] if branch is None else ["--revision", branch]
        command = [sys.executable, "-m", "bigs_cli", *words]
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return None if ended.returncode == 0 else ended.stderr.strip().rpartition("bigs: ")[2]
