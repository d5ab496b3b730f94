"""Ten short documents, the smallest model that learns from them, and tiny tasks: every command runs in seconds."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from typer.main import get_command

from bigs_cli.cli import main

ROOT = Path(__file__).parents[1]

DOCUMENTS = (
    "The river rises in the hills north of the town and runs south through old stone bridges to the sea.",
    "Bread needs flour, water, salt and time. The baker mixes them in the evening and bakes before the sun rises.",
    "A lighthouse stood on the rock for two hundred years. Its lamp could be seen from ships far out at sea.",
    "The teacher wrote the numbers on the board, and the children counted the apples and the stones on the table.",
    "In winter the lake freezes. People walk over the ice to the island, where an old house stands among the trees.",
    "The train leaves the town at seven. It follows the river, crosses three bridges and stops at every village.",
    "Birds come back in spring. They build their nests under the roof of the house and sing before the sun rises.",
    "The library has two rooms. One holds the old books of the town, the other is for children and their teacher.",
    "Salt was carried over the hills by people who walked for days and slept in houses made of stone and wood.",
    "The ship left the harbour in the evening. The people of the village stood on the rock and watched it go.",
)
LENGTH = 32
HANG = 900.0
"""Timeout in seconds of everything that a test waits for; much longer than a slow or busy machine needs."""
SETS = {
    "model.hidden_size": 16,
    "model.num_hidden_layers": 2,
    "model.intermediate_size": 24,
    "model.num_ssm": 4,
    "model.max_position_embeddings": LENGTH,
    "model.hidden_dropout_prob": 0.1,
    "data.sequence_length": LENGTH,
    "masking.max_predictions": 5,
    "batch_size": 8,
    "steps": 6,
    "schedule.warmup_steps": 2,
    "evaluate.every_steps": 3,
    "checkpoint.every_steps": 1000,
    "log_every": 1,
}


@dataclass(frozen=True)
class Done:
    """The exit code of a command, and its stdout and stderr."""

    code: int
    out: str
    err: str

    def fine(self) -> Done:
        """Return this if the command succeeded, else fail with its stderr."""
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        return self


# Otherwise each call builds all commands again from their signatures, which takes longer than many of them.
_get_command = functools.cache(get_command)


def bigs(*arguments: object) -> Done:
    """Run `bigs arguments…` in this process, through the function that the installed script calls."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["bigs", *map(str, arguments)]),
        mock.patch("typer.main.get_command", _get_command),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    return Done(int(code or 0), out.getvalue(), err.getvalue())


def start_bigs(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    """Start `bigs arguments…` in a separate process."""
    return subprocess.Popen(
        [sys.executable, "-m", "bigs_cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
    )


def wait_until(condition: Callable[[], object], running: subprocess.Popen[Any]) -> None:
    """Return once `condition` is true or the process has ended; fail after `HANG` seconds."""
    ends = time.monotonic() + HANG
    while not condition() and running.poll() is None:
        assert time.monotonic() < ends, "the process hangs"
        time.sleep(0.005)


def settings(**changes: object) -> list[str]:
    """Return the options that make the recipe `demo` tiny; in `changes`, "__" stands for a dot."""
    merged = SETS | {name.replace("__", "."): value for name, value in changes.items()}
    return [word for name, value in merged.items() for word in ("--set", f"{name}={value}")]


def pretrain(shards: Path, run: Path | str, *more: object, **changes: object) -> list[object]:
    """Return the arguments of a tiny pretraining run; with --resume, without a recipe."""
    size = json.loads((shards / "manifest.json").read_text())["vocab_size"]
    tiny = [] if "--resume" in more else settings(model__vocab_size=size, **changes)
    return ["pretrain", "--recipe", "demo", "--data", shards, "--run", run, *tiny, *more]


def finetune(task: str, start: object, data: Path, run: Path | str, *more: object) -> list[object]:
    """Return the arguments of a tiny fine-tuning run: two epochs, batch size 8, length 24."""
    sets = ("epochs=2", "batch_size=8", "eval_batch_size=8", "sequence_length=24", "log_every=1")
    tiny = [word for value in (*sets, "optimizer.learning_rate=3e-3") for word in ("--set", value)]
    if "--resume" in more:
        tiny = []
    return ["finetune", task, "--from", start, "--data", data, "--run", run, *tiny, *more]


def on_eight_devices(code: str, *arguments: object) -> str:
    """Return what `code` prints in a process with eight CPU devices."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_tasks(root: Path) -> Path:
    """Write tiny versions of CoLA, MRPC, STS-B and MNLI in their official layouts."""
    sentences = [part.strip() for text in DOCUMENTS for part in text.split(".") if part.strip()]
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("dev", 13)):
        chosen = [sentences[i] for i in random.integers(0, len(sentences), count)]
        shuffled = [" ".join(random.permutation(text.split())) for text in chosen]
        label = random.integers(0, 2, count)
        second = [same if is_same else other for is_same, same, other in zip(label, chosen, shuffled, strict=True)]
        rows = range(count)
        _tsv(root / "CoLA" / f"{split}.tsv", [["gj04", label[i], "" if label[i] else "*", second[i]] for i in rows])
        mrpc = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
        _tsv(root / "MRPC" / f"{split}.tsv", [mrpc, *([label[i], i, i, chosen[i], second[i]] for i in rows)], "\ufeff")
        stsb = ["index", "genre", "sentence1", "sentence2", "score"]
        score = [f"{5 * label[i] * random.random():.3f}" for i in rows]
        _tsv(root / "STS-B" / f"{split}.tsv", [stsb, *([i, "news", chosen[i], second[i], score[i]] for i in rows)])
        mnli, names = ["index", "sentence1", "sentence2", "gold_label"], ("contradiction", "neutral", "entailment")
        for name in ("train",) if split == "train" else ("dev_matched", "dev_mismatched"):
            body = ([i, chosen[i], second[i], names[label[i] + i % 2]] for i in rows)
            _tsv(root / "MNLI" / f"{name}.tsv", [mnli, *body])
    return root


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return every path under `folder`, and the time and content of files, to detect changes."""
    found = sorted(folder.rglob("*"))
    return {str(p): (0, b"") if p.is_dir() else (p.stat().st_mtime_ns, p.read_bytes()) for p in found}


def parameters(checkpoints: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the parameters of the newest checkpoint in `checkpoints` or `best` of a run, by path."""
    import jax

    from bigs_cli.checkpoints.config_json import read_config
    from bigs_cli.checkpoints.orbax import read_params
    from bigs_cli.models.functional import parameter_shapes

    tree = read_params(checkpoints, parameter_shapes(read_config(checkpoints.parent / "config.json")), pytest.fail)[1]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def write_shards(folder: Path) -> Path:
    """Write token shards of the ten documents, repeated to give many rows, with a vocabulary trained on them."""
    lines = (json.dumps({"text": f"{text} {DOCUMENTS[i % 10]}"}) for i in range(40) for text in DOCUMENTS[: 1 + i // 4])
    (folder / "text.jsonl").write_text("\n".join(lines) + "\n")
    cut = ("--length", LENGTH, "--train-vocab", 400, "--heldout", 0.1)
    bigs("tokenize", "--input", folder / "text.jsonl", *cut, "--output", folder / "shards").fine()
    return folder / "shards"


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards of `write_shards`. Do not modify them."""
    return write_shards(tmp_path_factory.mktemp("tiny"))


@contextlib.contextmanager
def most_optimizations(disabled: bool) -> Iterator[None]:
    """Compile with or without most optimizations of XLA and LLVM; programs compiled otherwise round differently."""
    import jax

    def set_to(value: bool) -> None:
        if jax.config.read("jax_disable_most_optimizations") != value:
            jax.clear_caches()
            jax.config.update("jax_disable_most_optimizations", value)

    before = bool(jax.config.read("jax_disable_most_optimizations"))
    set_to(disabled)
    try:
        yield
    finally:
        set_to(before)


@pytest.fixture(scope="session")
def pretrained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pretraining run of 6 steps. Do not modify it.

    It is compiled like the runs that tests compare with it, even if a test of exports needs it first.
    """
    run = tmp_path_factory.mktemp("runs") / "base"
    with most_optimizations(disabled=True):
        bigs(*pretrain(shards, run)).fine()
    return run


@pytest.fixture(scope="session")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny tasks in the official layouts. Do not modify it."""
    return write_tasks(tmp_path_factory.mktemp("glue"))


def _tsv(path: Path, rows: list[list[Any]], mark: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ("\t".join(map(str, row)) + "\n" for row in rows)
    path.write_text(mark + "".join(lines), encoding="utf-8", newline="")
