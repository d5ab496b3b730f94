"""`bigs demo`: the whole workflow on the documentation that comes with Python."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

from bigs_cli.commands import options as opt

EPILOG = "[bold]Example:[/bold] bigs demo --output demo"


def demo(
    output: Annotated[Path, opt.path_option("--output", "-o", help="Folder for all results.")] = Path("demo"),
) -> None:
    """Run the whole workflow: tokenize → pretrain → finetune → evaluate → export.

    The text is Python's own documentation; the labelled task is to distinguish natural from shuffled word order. The
    demo takes a few minutes on a CPU. If you repeat it, completed steps are skipped; remove the folder to start over.
    If a step fails, the demo exits with the exit code of that step.
    """
    from bigs_cli.bench.steps import Step, json_of, run_step
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
            ["export", "--model", str(task), "--format", "transformers", "--output", str(exported)],
            exported / "config.json",
        ),
    ):
        run_step(step)
    mlm_metrics = json_of(["eval", "mlm", "--model", str(base), "--data", str(shards)])["metrics"]
    task_metrics = json_of(["eval", "word-order", "--model", str(exported)])["metrics"]
    err.print(_summary(shards, base, task, exported, mlm_metrics, task_metrics))
    err.print(f"{(time.perf_counter() - started) / 60:.1f} minutes. Next:")
    for line in (
        shlex.join(["bigs", "eval", "word-order", "--model", str(task)]),
        shlex.join(["bigs", "predict", "The function returns a list.", "--model", str(task)]),
        "bigs recipes list",
        "bigs tokenize --input TEXT… --length 128 --train-vocab 8192 --split tokens --output shards/mine",
        "bigs pretrain --recipe small --data shards/mine --run runs/mine",
    ):
        err.print(f"  {line}")


def _summary(
    shards: Path, base: Path, task: Path, exported: Path, mlm: dict[str, float], word_order: dict[str, float]
) -> Any:
    from bigs_cli.data.shards import open_shards
    from bigs_cli.reporting.console import table

    manifest = open_shards(shards).manifest
    results = table("\nResults", "result", "folder", "quality", "baseline")
    results.add_row(
        "token shards and vocabulary",
        str(shards),
        f"{manifest.report.tokens / 1e6:.2f}M tokens, {manifest.vocab_size:,} vocabulary entries",
        "–",
    )
    results.add_row(
        "pretrained model",
        str(base),
        f"validation loss {mlm['loss']:.2f}, {100 * mlm['accuracy']:.1f}% of masked tokens predicted",
        f"loss {mlm['unigram_loss']:.2f} from token frequencies",
    )
    results.add_row("word-order classifier", str(task), f"{100 * word_order['accuracy']:.1f}% dev accuracy", "50.0%")
    results.add_row("exported model", str(exported), "outputs identical to the run", "–")
    return results
