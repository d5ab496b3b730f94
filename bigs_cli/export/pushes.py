"""Pushing the checkpoints of a run to the hub while it is trained."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bigs_cli.checkpoints.checksums import CHECKSUMS, steps
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import BigsError, listed
from bigs_cli.core.files import link, parse_json, write_json

PUSHED = "pushed.json"
"""The file of a run that lists the steps that were pushed, by repository."""
_SECONDS = 1.0


@contextmanager
def pushes(run: Path, repo: str, every: int | None, say: Callable[[str], object]) -> Iterator[None]:
    """Push the checkpoint of each `every`-th step of a run to a branch of `repo`, and the final model to the main one.

    The former are pushed in a thread; those of earlier processes are left out. `say` is called with a message about
    each. A push that fails is tried again after the next one, and at the end.

    Raises:
        BigsError: the run is complete, and the final model or a checkpoint could not be pushed.
    """
    stop, waiting = threading.Event(), RunFolder(run).pushes

    def push_waiting() -> None:
        pushed = _pushed(run)
        here = pushed.setdefault(repo, [])
        for step in steps(waiting):
            if problem := _export(str(waiting / str(step)), repo, f"step-{step}"):
                say(f"Step {step:,} could not be pushed: {problem}")
                continue
            here.append(step)
            here.sort()
            write_json(run / PUSHED, pushed)
            shutil.rmtree(waiting / str(step))
            say(f"Pushed step {step:,} to {repo}.")

    def watch() -> None:
        while not stop.wait(_SECONDS):
            if _set_aside(run, repo, every):
                push_waiting()

    thread = threading.Thread(target=watch, name="push", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        _set_aside(run, repo, every)
    push_waiting()
    left = steps(waiting)
    if not left:
        shutil.rmtree(waiting, ignore_errors=True)
    if RunFolder(run).finished:
        if problem := _export(str(run), repo, None):
            raise BigsError(f"The run is complete, but its model could not be pushed. {problem}")
        say(f"Pushed the final model to {repo}.")
        if left:
            raise BigsError(
                f"The run is complete, but not all of its checkpoints were pushed: {listed(list(map(str, left)))}. "
                "Resume it with --push to try again."
            )


def _pushed(run: Path) -> dict[str, list[int]]:
    """Return repository → the steps of a run that were pushed to it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        pushed = parse_json((run / PUSHED).read_bytes())
        return {repo: [int(step) for step in steps] for repo, steps in pushed.items()}
    return {}


def _set_aside(run: Path, repo: str, every: int | None) -> bool:
    """Link new checkpoints that are to be pushed into runs of their own; return whether there are any.

    The run may delete its checkpoints before they are pushed.
    """
    pushed, new = _pushed(run).get(repo, []), False
    for step in steps(run / "checkpoints"):
        target = RunFolder(run).pushes / str(step)
        if every is None or step % every or step in pushed or target.exists():
            continue
        partial = target.with_name(f".{step}")
        shutil.rmtree(partial, ignore_errors=True)
        source = run / "checkpoints" / str(step)
        with contextlib.suppress(FileNotFoundError):
            for path in [*(path for path in run.iterdir() if path.is_file()), *source.rglob("*")]:
                if path.is_file() and not path.name.startswith("."):
                    copy = partial / path.relative_to(run)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    link(path, copy)
            if (partial / "checkpoints" / str(step) / CHECKSUMS).is_file():
                partial.rename(target)
                new = True
    return new


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
