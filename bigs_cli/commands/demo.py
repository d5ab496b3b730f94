"""`bigs demo`: the whole lifecycle on text that every Python installation carries."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from bigs_cli.commands import local
from bigs_cli.core.errors import BigsError

EPILOG = "[bold]Example:[/bold] bigs demo --output demo"


@dataclass(frozen=True)
class Step:
    """One command of the demo, and the file that shows it is done."""

    arguments: list[str]
    made: Path


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Make everything in this folder.", parser=local.path)
    ] = Path("demo"),
) -> None:
    """Go through the whole lifecycle: tokenize → pretrain → finetune → evaluate → export.

    The text is Python's own documentation, which is real English and on every machine; the labelled task is to tell
    natural from shuffled word order. Minutes on a CPU. What is already made is kept: remove the folder to start anew.
    Ends with the exit code of the step that fails.
    """
    from bigs_cli.reporting.console import err

    started = time.perf_counter()
    shards, base, task, exported = (output / name for name in ("shards", "pretrained", "word-order", "exported"))
    for step in (
        Step(
            [
                *("tokenize", "--input", "python-docs", "--length", "128"),
                *("--train-vocab", "8192", "--heldout", "0.1", "--output", str(shards)),
            ],
            shards / "manifest.json",
        ),
        Step(
            ["pretrain", "--recipe", "demo", "--data", str(shards), "--run", str(base)],
            base / "results.json",
        ),
        Step(
            ["finetune", "word-order", "--from", str(base), "--run", str(task)],
            task / "results.json",
        ),
        Step(
            ["export", "--model", str(task), "--format", "flax", "--output", str(exported)],
            exported / "config.json",
        ),
    ):
        _run(step)
    words = _measure(["mlm", "--model", str(base), "--data", str(shards)])
    order = _measure(["word-order", "--model", str(exported)])
    err.print(_summary(shards, base, task, exported, words, order))
    err.print(f"{(time.perf_counter() - started) / 60:.1f} minutes. Go on with:")
    for line in (
        shlex.join(["bigs", "eval", "word-order", "--model", str(task)]),
        shlex.join(["bigs", "export", "--model", str(task), "--format", "torch", "--output", str(output / "torch")]),
        "bigs recipes list",
        "bigs tokenize --input TEXT… --length 128 --train-vocab 30522 --output shards/mine",
        "bigs pretrain --recipe small --data shards/mine --run runs/mine",
    ):
        err.print(f"  {line}")


def _bigs(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "bigs_cli", *arguments]


def _run(step: Step) -> None:
    from bigs_cli.data.manifest import UNFINISHED
    from bigs_cli.reporting.console import err

    shown = shlex.join(["bigs", *step.arguments])
    if step.made.is_file():
        err.print(f"done before: {shown}", style="dim")
        return
    err.print(f"$ {shown}", style="bold")
    begun = any((step.made.parent / name).exists() for name in ("recipe.yaml", UNFINISHED))
    resume = ["--resume"] if begun else []
    _check(subprocess.run(_bigs([*step.arguments, *resume]), stdout=subprocess.DEVNULL, check=False), shown)


def _measure(arguments: list[str]) -> dict[str, float]:
    from bigs_cli.reporting.console import err

    shown = shlex.join(["bigs", "eval", *arguments])
    err.print(f"$ {shown}", style="bold")
    ended = subprocess.run(_bigs(["eval", *arguments, "--json"]), stdout=subprocess.PIPE, text=True, check=False)
    _check(ended, shown)
    return json.loads(ended.stdout)["metrics"]


def _check(ended: subprocess.CompletedProcess[Any], shown: str) -> None:
    """End the demo as a command of it has ended, if not well; what a signal has ended could not say so itself."""
    if ended.returncode < 0:
        raise BigsError(
            f"`{shown}` was ended by {signal.Signals(-ended.returncode).name}; if by nobody here, then by the system, "
            "for want of memory. Give the command of the demo again: it goes on from there."
        )
    if ended.returncode:
        raise typer.Exit(ended.returncode)


def _summary(
    shards: Path, base: Path, task: Path, exported: Path, words: dict[str, float], order: dict[str, float]
) -> Any:
    from bigs_cli.data.shards import open_shards
    from bigs_cli.reporting.console import table

    manifest = open_shards(shards).manifest
    made = table("\nWhat was made", "what", "where", "how good", "against chance")
    made.add_row(
        "token shards and vocabulary",
        str(shards),
        f"{manifest.report.tokens / 1e6:.2f}M tokens, {manifest.vocab_size:,} words",
        "–",
    )
    made.add_row(
        "pretrained model",
        str(base),
        f"validation loss {words['loss']:.2f}, {100 * words['accuracy']:.1f}% of hidden words right",
        f"loss {words['unigram_loss']:.2f} from word frequencies alone",
    )
    made.add_row("word-order classifier", str(task), f"{100 * order['accuracy']:.1f}% of dev sentences right", "50.0%")
    made.add_row("exported model", str(exported), "same outputs as the run, read back", "–")
    return made
