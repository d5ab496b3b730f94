"""A teacher: its distributions are learned in pretraining, and its scores in fine-tuning."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigs_cli.models.losses import binary_distillation, distillation
from bigs_cli.reporting.metrics_log import curve, read_metrics
from tests.tiny import LENGTH, bigs, finetune, pretrain, start_bigs
from tests.training.test_resume import interrupt, same, training_log
from tests.training.test_task_types import write_choices

SAME_SIZE = {"model__hidden_dropout_prob": 0}
EVALUATE_AT_THE_END = "evaluate_every=1000"


@pytest.fixture(scope="module")
def teacher(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that prefers frequent words. Do not modify it."""
    run = tmp_path_factory.mktemp("teacher") / "teacher"
    bigs(*pretrain(shards, run, steps=60, optimizer__learning_rate=1e-2, **SAME_SIZE)).fine()
    return run


@pytest.fixture(scope="module")
def other_shards(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same text with another vocabulary. Do not modify it."""
    folder = tmp_path_factory.mktemp("other")
    words = ("--length", LENGTH, "--train-vocab", 300, "--heldout", 0.1, "--output", folder / "shards")
    bigs("tokenize", "--input", shards.parent / "text.jsonl", *words).fine()
    return folder / "shards"


def logged(run: Path, name: str) -> list[float]:
    return curve(read_metrics(run / "metrics.jsonl"), name)[1]


def softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


@given(st.integers(0, 99), st.floats(0.5, 8))
def test_the_difference_is_the_divergence_from_the_teacher(seed: int, temperature: float) -> None:
    ours, theirs = np.random.default_rng(seed).normal(size=(2, 5, 4)) * 3
    student, teacher = softmax(ours / temperature), softmax(theirs / temperature)
    expected = temperature**2 * (teacher * np.log(teacher / student)).sum(-1)
    found = distillation(jnp.asarray(ours), jnp.asarray(theirs), temperature)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_labels_that_do_not_exclude_each_other_are_compared_one_by_one() -> None:
    ours, theirs = np.random.default_rng(0).normal(size=(2, 5, 3))
    student, teacher = 1 / (1 + np.exp(-ours / 2)), 1 / (1 + np.exp(-theirs / 2))
    expected = 4 * (teacher * np.log(teacher / student) + (1 - teacher) * np.log((1 - teacher) / (1 - student)))
    found = binary_distillation(jnp.asarray(ours), jnp.asarray(theirs), 2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_copy_of_the_teacher_has_nothing_to_learn_from_it(pretrained: Path, shards: Path, tmp_path: Path) -> None:
    options = ("--from", pretrained, "--teacher", pretrained, "--set", "distillation.weight=1")
    bigs(*pretrain(shards, tmp_path / "copy", *options, steps=2, **SAME_SIZE)).fine()
    first = next(read for read in read_metrics(tmp_path / "copy" / "metrics.jsonl") if read["step"] == 1)
    assert first["distillation"] == pytest.approx(0, abs=1e-6)
    assert first["loss"] == pytest.approx(0, abs=1e-6)
    assert first["grad_norm"] == pytest.approx(0, abs=1e-4)


def test_pretraining_approaches_the_teacher(teacher: Path, shards: Path, tmp_path: Path) -> None:
    narrow = {"model__hidden_size": 8, "steps": 60, "log_every": 10, "optimizer__learning_rate": 1e-2, **SAME_SIZE}
    run, split = tmp_path / "run", tmp_path / "split"
    done = bigs(*pretrain(shards, run, "--teacher", teacher, **narrow, distillation__weight=0.8)).fine()
    assert f"Teacher: {teacher} (a run)" in done.err
    difference = logged(run, "distillation")
    assert difference[-1] < 0.5 * difference[0]
    parts = {**narrow, "steps": 1, "gradient_accumulation_steps": 2, "schedule__warmup_steps": 0}
    bigs(*pretrain(shards, split, "--teacher", teacher, **parts, distillation__weight=0.8)).fine()
    assert logged(split, "distillation") == pytest.approx(difference[:1], rel=1e-5)


def test_a_resumed_run_is_identical_and_keeps_its_teacher(pretrained: Path, shards: Path, tmp_path: Path) -> None:
    teacher = shutil.copytree(pretrained, tmp_path / "teacher")
    steady, stopped = tmp_path / "steady", tmp_path / "stopped"
    changes = {"steps": 60, "evaluate__every_steps": 50}
    bigs(*pretrain(shards, steady, "--teacher", teacher, **changes)).fine()
    interrupt(pretrain(shards, stopped, "--teacher", teacher, **changes), 4)
    changed = tmp_path / "changed"
    shutil.copytree(stopped, changed)
    bigs("pretrain", "--resume", "--run", stopped).fine()
    assert same(steady / "checkpoints", stopped / "checkpoints")
    assert training_log(steady) == training_log(stopped)
    other = bigs("pretrain", "--resume", "--run", changed, "--teacher", steady)
    assert other.code == 2
    assert "--teacher" in other.err
    shutil.rmtree(teacher)
    shutil.copytree(steady, teacher)
    replaced = bigs("pretrain", "--resume", "--run", changed)
    assert replaced.code == 2
    assert "(changed: teacher)" in replaced.err


@pytest.mark.parametrize("mesh", [("mesh.fsdp=2", "mesh.tensor=2"), ("mesh.sequence=2",)])
def test_several_devices_learn_the_same(pretrained: Path, shards: Path, tmp_path: Path, mesh: tuple[str, ...]) -> None:
    one, eight = tmp_path / "one", tmp_path / "eight"
    changes = {"steps": 3, **SAME_SIZE}
    bigs(*pretrain(shards, one, "--teacher", pretrained, **changes)).fine()
    words = [word for value in mesh for word in ("--set", value)]
    process = start_bigs(*pretrain(shards, eight, "--teacher", pretrained, *words, **changes), JAX_NUM_CPU_DEVICES="8")
    assert process.wait() == 0, process.communicate()[1]
    process.communicate()
    assert logged(eight, "distillation") == pytest.approx(logged(one, "distillation"), rel=2e-4)


def test_unsuitable_teachers_are_refused(
    pretrained: Path, shards: Path, other_shards: Path, glue: Path, tmp_path: Path
) -> None:
    cola, run = tmp_path / "cola", tmp_path / "run"
    bigs(*finetune("cola", pretrained, glue, cola, "--set", "epochs=1")).fine()
    for arguments, sentence in (
        (pretrain(shards, run, "--teacher", cola), "sequence-classification model. Only a masked-lm model"),
        (pretrain(other_shards, run, "--teacher", pretrained), "were made with a different tokenizer"),
        (pretrain(shards, run, "--teacher", "nowhere"), "There is no model 'nowhere'"),
        (pretrain(shards, run, distillation__weight=0.1), "`distillation` has no effect without a teacher"),
        (finetune("stsb", pretrained, glue, run, "--teacher", cola), "STS-B needs a"),
        (finetune("cola", pretrained, glue, run, "--teacher", pretrained), "CoLA needs a"),
    ):
        done = bigs(*arguments)
        assert done.code == 2, arguments
        assert sentence in done.err
        assert not (run / "recipe.yaml").exists()


def test_fine_tuning_learns_the_scores_of_a_teacher_with_another_vocabulary(
    pretrained: Path, other_shards: Path, glue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGS_CACHE", str(tmp_path / "cache"))
    bigs(*pretrain(other_shards, tmp_path / "base", steps=2)).fine()
    for task, seeds in (("stsb", 1), ("cola", 2)):
        teacher, run = tmp_path / f"{task}-teacher", tmp_path / task
        bigs(*finetune(task, tmp_path / "base", glue, teacher)).fine()
        changes = ("distillation.weight=1", "epochs=20", "dropout=0", EVALUATE_AT_THE_END)
        options = ("--teacher", teacher, *(word for change in changes for word in ("--set", change)))
        done = bigs(*finetune(task, pretrained, glue, run, *options, "--seeds", seeds)).fine()
        assert f"Teacher: {teacher} (a run)" in done.err
        difference = logged(run / "seed-43" if seeds > 1 else run, "distillation")
        assert np.mean(difference[-3:]) < 0.5 * np.mean(difference[:3])
    cached = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "teacher").iterdir()}
    assert len(cached) == 2
    bigs(*finetune("cola", pretrained, glue, tmp_path / "again", *options)).fine()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "teacher").iterdir()} == cached
    assert logged(tmp_path / "again", "loss") == logged(tmp_path / "cola" / "seed-42", "loss")


def learned_half(words: tuple[object, ...], tmp_path: Path) -> None:
    """Train a teacher, then a model that learns only from it: the difference between them must fall by half."""
    bigs("finetune", *words, "--set", "epochs=2", "--run", tmp_path / "teacher").fine()
    changes = ("distillation.weight=1", "epochs=10", EVALUATE_AT_THE_END)
    options = ("--teacher", tmp_path / "teacher", *(word for change in changes for word in ("--set", change)))
    bigs("finetune", *words, *options, "--run", tmp_path / "run").fine()
    difference = logged(tmp_path / "run", "distillation")
    assert np.mean(difference[-3:]) < 0.5 * np.mean(difference[:3])


TINY = ("batch_size=8", "sequence_length=16", "log_every=1", "dropout=0", "optimizer.learning_rate=1e-2")


def test_several_labels_are_learned_from_a_teacher(pretrained: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.jsonl"
    rows = [{"text": f"A text about {name}.", "label": name.split()} for name in ("sun", "rain", "sun rain", "")]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows * 6))
    files = ("--train", table, "--dev", table, "--task-type", "multi-label")
    learned_half((*files, "--from", pretrained, *(word for change in TINY for word in ("--set", change))), tmp_path)


def test_multiple_choice_is_learned_from_a_teacher(pretrained: Path, tmp_path: Path) -> None:
    write_choices(tmp_path / "data")
    task = ("codah", "--data", tmp_path / "data", "--from", pretrained)
    learned_half((*task, *(word for change in TINY for word in ("--set", change))), tmp_path)


def test_a_sweep_over_the_weight_of_a_teacher(pretrained: Path, shards: Path, tmp_path: Path) -> None:
    weights = ("--teacher", pretrained, "--sweep", "distillation.weight=0,0.9")
    done = bigs(*pretrain(shards, tmp_path / "sweep", *weights, "--seeds", 2, "--dry-run", steps=2)).fine()
    assert done.err.count("distillation.weight=0.9") == 0
    assert done.err.count("weight=0.9/seed-") == 2


def test_a_teacher_with_the_name_of_a_number(pretrained: Path, shards: Path, tmp_path: Path) -> None:
    shutil.copytree(pretrained, tmp_path / "2024")
    with contextlib.chdir(tmp_path):
        done = bigs(*pretrain(shards, tmp_path / "run", "--teacher", "2024", steps=2)).fine()
    assert "Teacher: 2024 (a run)" in done.err
