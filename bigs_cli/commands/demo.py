"""`bigs demo`: the whole lifecycle on the documentation that comes with Python."""

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

from bigs_cli.commands import options as opt
from bigs_cli.core.errors import BigsError

EPILOG = "[bold]Example:[/bold] bigs demo --output demo"


@dataclass(frozen=True)
class Step:
    """One command of the demo, and the file that it writes last."""

    arguments: list[str]
    made: Path


def demo(
    output: Annotated[Path, opt.path_option("--output", "-o", help="Folder for all results.")] = Path("demo"),
) -> None:
    """Run the whole lifecycle: tokenize → pretrain → finetune → evaluate → export.

    The text is Python's own documentation; the labelled task is to tell natural from shuffled word order. It takes
    minutes on a CPU. Finished steps are kept: remove the folder to start over. The exit code is that of a failed step.
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
    err.print(f"{(time.perf_counter() - started) / 60:.1f} minutes. Next:")
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
        err.print(f"already done: {shown}", style="dim")
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
    """End the demo with the exit code of a failed command; one that a signal ended has printed no error."""
    if ended.returncode < 0:
        raise BigsError(
            f"`{shown}` was ended by {signal.Signals(-ended.returncode).name}, perhaps for lack of memory. "
            "Repeat `bigs demo` to continue."
        )
    if ended.returncode:
        raise typer.Exit(ended.returncode)


def _summary(
    shards: Path, base: Path, task: Path, exported: Path, words: dict[str, float], order: dict[str, float]
) -> Any:
    from bigs_cli.data.shards import open_shards
    from bigs_cli.reporting.console import table

    manifest = open_shards(shards).manifest
    made = table("\nResults", "what", "where", "quality", "baseline")
    made.add_row(
        "token shards and vocabulary",
        str(shards),
        f"{manifest.report.tokens / 1e6:.2f}M tokens, {manifest.vocab_size:,} vocabulary entries",
        "–",
    )
    made.add_row(
        "pretrained model",
        str(base),
        f"validation loss {words['loss']:.2f}, {100 * words['accuracy']:.1f}% of masked tokens predicted",
        f"loss {words['unigram_loss']:.2f} from token frequencies",
    )
    made.add_row("word-order classifier", str(task), f"{100 * order['accuracy']:.1f}% dev accuracy", "50.0%")
    made.add_row("exported model", str(exported), "outputs identical to the run", "–")
    return made
