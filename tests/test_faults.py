"""Full disks: commands print one sentence, leave no partial files, and give the same result when repeated.

The tests limit the size of files (RLIMIT_FSIZE), which gives the same errors as a full disk on any machine.
tests/long/full_disk.py fills a disk.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from bigs_cli.checkpoints import orbax
from bigs_cli.checkpoints.orbax import Checkpoints, steps
from tests.tiny import Done, bigs, finetune, pretrain
from tests.training.test_resume import same, training_log


@contextlib.contextmanager
def small_files(size: int) -> Iterator[None]:
    """Prevent this process from writing files of more than `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_failure(done: Done, *parts: str) -> None:
    """Check that the command failed and that its last line contains `parts`."""
    assert (done.code, done.out) == (1, "")
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    for part in ("bigs: ", "exceeds the maximum file size", *parts):
        assert part in last


@pytest.mark.parametrize("size", [300, 20_000], ids=["at the start", "at a checkpoint"])
def test_pretraining_resumes_after_a_write_error(size: int, shards: Path, pretrained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with small_files(size):
        done = bigs(*pretrain(shards, run))
    started = size > 300
    check_failure(
        done, f"and continue with `bigs pretrain --resume --run {run}`." if started else "and repeat the command."
    )
    assert (run / "recipe.yaml").exists() == started
    assert steps(run / "checkpoints") == []
    bigs(*pretrain(shards, run, *(["--resume"] if started else []))).fine()
    assert same(run / "checkpoints", pretrained / "checkpoints")
    assert training_log(run) == training_log(pretrained)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_finetuning_resumes_after_a_failed_write_of_the_best_checkpoint(
    pretrained: Path, glue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If writing the best parameters fails, no checkpoint refers to them."""
    steady, run, write_checksums = tmp_path / "steady", tmp_path / "run", orbax.write_checksums
    bigs(*finetune("mrpc", pretrained, glue, steady)).fine()

    def full(folder: Path, score: float | None) -> None:
        if folder.parent.name == "best":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_checksums(folder, score)

    monkeypatch.setattr(orbax, "write_checksums", full)
    done = bigs(*finetune("mrpc", pretrained, glue, run))
    assert done.code == 1
    assert (
        f"The disk of {run} is full. Free some space, and continue with `bigs finetune --resume --run {run}`."
        in done.err.splitlines()[-1]
    )
    assert (steps(run / "best"), steps(run / "checkpoints")) == ([], [])
    gc.collect()  # while warnings are ignored: Orbax leaves coroutines that it never awaited
    monkeypatch.setattr(orbax, "write_checksums", write_checksums)
    bigs(*finetune("mrpc", pretrained, glue, run, "--resume")).fine()
    assert all(same(steady / name, run / name) for name in ("best", "checkpoints"))
    assert (steady / "predictions.jsonl").read_bytes() == (run / "predictions.jsonl").read_bytes()


def commands(folder: Path, shards: Path, pretrained: Path, glue: Path) -> dict[str, tuple[object, ...]]:
    text = folder / "text.jsonl"
    text.write_text("".join(json.dumps({"text": f"The river {i}."}) + "\n" for i in range(50)))
    out, model = folder / "new" / "out", ("--model", pretrained)
    cut = ("--length", 32, "--vocab", shards, "--heldout", 0.3, "--text-documents", "file")
    return {
        "tokenize": ("tokenize", "--input", text, *cut, "--output", out),
        "predict": ("predict", *model, "--embed", "--input", text, "--output", out.with_suffix(".npy")),
        "flax": ("export", *model, "--output", out),
        "torch": ("export", *model, "--format", "torch", "--output", out),
        "transformers": ("export", *model, "--format", "transformers", "--output", out),
        "stablehlo": ("export", *model, "--format", "stablehlo", "--output", out),
    }


@pytest.mark.parametrize("verb", ["tokenize", "predict", "flax", "torch", "transformers", "stablehlo"])
def test_outputs_are_written_completely_or_not_at_all(
    verb: str, shards: Path, pretrained: Path, glue: Path, tmp_path: Path
) -> None:
    command = commands(tmp_path, shards, pretrained, glue)[verb]
    with small_files(1_000):
        done = bigs(*command)
    check_failure(done, "out", "and repeat the command.")
    assert list((tmp_path / "new").glob("*")) == []
    bigs(*command).fine()
    assert [path.stem for path in (tmp_path / "new").iterdir()] == ["out"]


def test_a_full_stdout_is_reported() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "bigs_cli", "recipes", "list"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 1
    assert ended.stderr == "bigs: The disk of the output is full. Free some space, and repeat the command.\n"


KNOBS = ("set compute.remat to layer", "mesh.fsdp (now 1)", "There is not enough memory for ")


def test_out_of_memory_errors_name_the_settings_to_change(shards: Path, tmp_path: Path) -> None:
    done = bigs(*pretrain(shards, tmp_path / "run", model__hidden_size=20_000_000, gradient_accumulation_steps=2))
    assert done.code == 1
    for part in (
        *KNOBS,
        "lower batch_size (now 8)",
        "gradient_accumulation_steps (now 2)",
        f"--run {tmp_path / 'run'}",
    ):
        assert part in done.err.splitlines()[-1]


def test_xla_out_of_memory_errors_name_the_settings_to_change(
    pretrained: Path, glue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*_: Any) -> Any:
        return jnp.zeros(1 << 45).block_until_ready()

    monkeypatch.setattr("bigs_cli.training.loop.make_step", lambda *_, **__: step)
    run = tmp_path / "run"
    done = bigs(*finetune("mrpc", pretrained, glue, run))
    assert done.code == 1
    for part in (*KNOBS, "eval_batch_size (now 8)", f"Then start a new run: --run {run}-2"):
        assert part in done.err.splitlines()[-1]


def test_checkpoints_left_by_a_killed_process_are_deleted(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    bigs(*pretrain(shards, run, checkpoint__every_steps=2, checkpoint__keep=9)).fine()
    with Checkpoints(run / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [2, 4, 6]
        checkpoints.reload()
        assert checkpoints.steps() == [6]


def test_shards_removed_during_training_are_reported(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mapped files remain readable, but each evaluation maps the held-out shard again."""
    moved = tmp_path / "shards"
    moved.symlink_to(shards)
    save = Checkpoints.save

    def vanish(self: Checkpoints, step: int, *state: Any) -> None:
        save(self, step, *state)
        moved.unlink(missing_ok=True)

    monkeypatch.setattr(Checkpoints, "save", vanish)
    run = tmp_path / "run"
    done = bigs(*pretrain(moved, run, checkpoint__every_steps=2))
    assert done.code == 1
    gone = f"{moved}/heldout-00000.bin does not exist, or was removed. Restore it"
    assert (
        f"{gone}, or name another path, and continue with `bigs pretrain --resume --run {run}`."
        in done.err.splitlines()[-1]
    )
    assert steps(run / "checkpoints") == [2]
