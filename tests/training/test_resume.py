"""A resumed run is identical to an uninterrupted one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli.checkpoints.orbax import steps
from bigs_cli.core.files import sha256
from bigs_cli.evaluation.mlm import MaskedLMEvaluator
from bigs_cli.reporting.metrics_log import read_metrics
from tests.tiny import HANG, LENGTH, bigs, finetune, parameters, pretrain, snapshot

TIMES = ("tokens_per_second", "data_wait_fraction")


# The process sends the signal to itself when it logs a step; another process might be too late.
STOPPED = """
import os, sys
from bigs_cli.__main__ import main
from bigs_cli.reporting.metrics_log import MetricsLog
number, after, write = int(sys.argv.pop(1)), int(sys.argv.pop(1)), MetricsLog.write
def write_and_stop(self, step, **values):
    write(self, step, **values)
    if step == after:
        os.kill(os.getpid(), number)
MetricsLog.write = write_and_stop
main()
"""


def interrupt(arguments: list[object], after: int, number: int = signal.SIGINT) -> str:
    """Run `bigs arguments…`, interrupt it with a signal when it has logged step `after`, and return its stderr."""
    command = [sys.executable, "-c", STOPPED, str(int(number)), str(after), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG)
    assert (ended.returncode, ended.stdout) == (130, ""), ended.stderr
    return ended.stderr


def training_log(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in read_metrics(run / "metrics.jsonl")]


def same(one: Path, other: Path) -> bool:
    ours, theirs = parameters(one), parameters(other)
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[path], theirs[path]) for path in ours)


def test_pretraining(shards: Path, tmp_path: Path) -> None:
    """More steps than an epoch, with dropout: data order, masks, dropout and moments must all be restored."""
    steady, stopped = tmp_path / "steady", tmp_path / "stopped"
    changes = {"steps": 120, "evaluate__every_steps": 50, "checkpoint__every_steps": 30}
    bigs(*pretrain(shards, steady, **changes)).fine()
    err = interrupt(pretrain(shards, stopped, **changes), 4)
    assert f"Continue with: bigs pretrain --resume --run {stopped}\n" in err
    assert not (stopped / "results.json").exists()
    reached = steps(stopped / "checkpoints")[-1]
    assert 4 <= reached < 120
    again = bigs(*pretrain(shards, stopped, "--resume")).fine()
    assert again.out == f"{stopped}\n"
    assert f"after step {reached}" in again.err
    assert same(steady / "checkpoints", stopped / "checkpoints")
    assert training_log(stopped) == training_log(steady)
    ended = [json.loads((run / "results.json").read_text()) for run in (steady, stopped)]
    assert ended[0]["metrics"] == ended[1]["metrics"]


def test_finetuning(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    steady, stopped = tmp_path / "steady", tmp_path / "stopped"
    more = ("--set", "epochs=8", "--set", "optimizer.ema=0.9")
    bigs(*finetune("cola", pretrained, glue, steady, *more)).fine()
    interrupt(finetune("cola", pretrained, glue, stopped, *more), 4, signal.SIGTERM)
    bigs(*finetune("cola", pretrained, glue, stopped, "--resume")).fine()
    assert same(steady / "checkpoints", stopped / "checkpoints")
    assert same(steady / "best", stopped / "best")
    assert training_log(stopped) == training_log(steady)
    ended = [json.loads((run / "results.json").read_text()) for run in (steady, stopped)]
    assert ended[0]["history"] == ended[1]["history"]


def test_log_entries_after_the_last_checkpoint_are_replaced(shards: Path, tmp_path: Path) -> None:
    """As after a crash: without a checkpoint, and with log entries after the last checkpoint."""
    run = tmp_path / "run"
    bigs(*pretrain(shards, run, checkpoint__every_steps=4, checkpoint__keep=2)).fine()
    steady = training_log(run)
    (run / "results.json").unlink()
    shutil.rmtree(run / "checkpoints" / "6")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    bigs(*pretrain(shards, run, "--resume")).fine()
    assert training_log(run) == steady
    shutil.rmtree(run / "checkpoints")
    bigs(*pretrain(shards, run, "--resume")).fine()
    assert training_log(run) == steady


def test_resuming_a_finished_run_changes_no_results(shards: Path, pretrained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(pretrained, tmp_path / "run")
    bigs(*pretrain(shards, run, "--resume")).fine()
    assert same(run / "checkpoints", pretrained / "checkpoints")
    assert training_log(run) == training_log(pretrained)


def test_resuming_with_other_data_or_settings_is_rejected(shards: Path, pretrained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(pretrained, tmp_path / "run")
    other = shutil.copytree(shards, tmp_path / "shards")
    rows = (other / "train-00000.bin").read_bytes()
    (other / "train-00000.bin").write_bytes(rows[LENGTH * 2 :] + rows[: LENGTH * 2])  # the first row becomes the last
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["splits"]["train"][0]["sha256"] = sha256(other / "train-00000.bin")
    (other / "manifest.json").write_text(json.dumps(manifest))
    before = snapshot(run)
    rejected = bigs(*pretrain(other, run, "--resume"))
    assert (rejected.code, rejected.out) == (2, "")
    assert "is not what" in rejected.err
    assert "--from" in rejected.err
    rejected = bigs(*pretrain(shards, run, "--resume"), "--set", "steps=9")
    assert (rejected.code, rejected.out) == (2, "")
    assert "Leave out --set" in rejected.err
    assert snapshot(run) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_during_the_last_evaluation_loses_nothing(
    number: signal.Signals, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal arrives during the evaluation after the last step, before any checkpoint."""
    steady, stopped = tmp_path / "steady", tmp_path / "stopped"
    changes = {"steps": 5, "evaluate__every_steps": 100, "checkpoint__every_steps": 100}
    bigs(*pretrain(shards, steady, **changes)).fine()
    measure = MaskedLMEvaluator.__call__

    def interrupted(self: MaskedLMEvaluator, *arguments: Any) -> dict[str, float]:
        signal.raise_signal(number)
        return measure(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(MaskedLMEvaluator, "__call__", interrupted)
        ended = bigs(*pretrain(shards, stopped, **changes))
    assert (ended.code, ended.out) == (130, "")
    assert "Stopped after step 5; a checkpoint is written." in ended.err
    assert steps(stopped / "checkpoints") == [5]
    bigs(*pretrain(shards, stopped, "--resume")).fine()
    assert same(steady / "checkpoints", stopped / "checkpoints")
    assert training_log(stopped) == training_log(steady)
