"""Pretraining on shards without held-out rows: without validation, or with validation on other shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bigs_cli.reporting.metrics_log import read_metrics
from tests.data.hdf5_files import corpus as hdf5_corpus
from tests.data.hdf5_files import pretrain as pretrain_hdf5
from tests.tiny import bigs, parameters, pretrain, snapshot
from tests.training.test_resume import same

corpus = hdf5_corpus


def without_heldout(shards: Path, copy: Path) -> Path:
    """Return a copy of shards without held-out rows, as `--heldout 0` writes them."""
    shutil.copytree(shards, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["splits"]["heldout"] = []
    (copy / "manifest.json").write_text(json.dumps(manifest))
    (copy / "heldout-00000.bin").unlink()
    return copy


@pytest.fixture
def bare(shards: Path, tmp_path: Path) -> Path:
    return without_heldout(shards, tmp_path / "bare")


def metrics(run: Path) -> dict[str, float]:
    return json.loads((run / "results.json").read_text())["metrics"]


def test_tokenize_without_heldout_writes_trainable_shards(shards: Path, tmp_path: Path) -> None:
    text = shards.parent / "text.jsonl"
    made, run = tmp_path / "made", tmp_path / "run"
    bigs("tokenize", "--input", text, "--length", 32, "--vocab", shards, "--heldout", 0, "--output", made).fine()
    done = bigs(*pretrain(made, run, checkpoint__keep_best="true")).fine()
    (message,) = [line for line in done.err.splitlines() if "without validation" in line]
    assert message == (
        f"Training without validation (checkpoint.keep_best has no effect): {made} has no held-out rows. "
        "Use --validation to name other shards."
    )
    assert "held-out loss" not in done.err
    assert "Next: bigs finetune" in done.err


def test_commands_accept_a_run_without_validation(
    bare: Path, shards: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    bigs(*pretrain(bare, run)).fine()
    assert metrics(run) == {}
    assert same(run / "checkpoints", pretrained / "checkpoints")
    assert not any(name.startswith("heldout") for entry in read_metrics(run / "metrics.jsonl") for name in entry)
    monkeypatch.setenv("BIGS_RUNS", str(tmp_path))
    assert "finished" in bigs("runs", "list").fine().out
    assert "finished" in bigs("runs", "show", run).fine().out
    assert "validation loss" in bigs("runs", "compare", run, pretrained).fine().out
    bigs("runs", "plot", run, "--output", tmp_path / "p.svg").fine()
    bigs("runs", "report", run, pretrained, "--output", tmp_path / "r.html").fine()
    bigs("export", "--model", run, "--output", tmp_path / "exported").fine()
    done = bigs("eval", "mlm", "--model", run)
    assert (done.code, done.out) == (2, "")
    assert "was trained without validation" in done.err
    assert "--data DIR" in done.err
    command = ("eval", "mlm", "--json", "--model", run, "--data")
    assert json.loads(bigs(*command, shards).fine().out)["metrics"]["loss"] == pytest.approx(
        metrics(pretrained)["heldout_loss"], rel=1e-5
    )
    all_rows = bigs(*command, bare).fine()
    assert "unigram_loss" not in json.loads(all_rows.out)["metrics"]
    assert "has no held-out rows; all" in all_rows.err
    bigs("pretrain", "--resume", "--run", run).fine()
    assert metrics(run) == {}


def test_validation_masks_do_not_depend_on_the_recipe(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    own = {"masking__whole_word": "true", "masking__rate": "0.5", "masking__mask_fraction": "0.9"}
    bigs(*pretrain(shards, run, **own)).fine()
    measured = json.loads(bigs("eval", "mlm", "--json", "--model", run, "--data", shards).fine().out)["metrics"]
    assert measured["loss"] == pytest.approx(metrics(run)["heldout_loss"], rel=1e-5)


def test_validation_on_other_shards(bare: Path, shards: Path, pretrained: Path, tmp_path: Path) -> None:
    """The option and the recipe key select the held-out rows; the final metrics equal those of `bigs eval`."""
    run = tmp_path / "run"
    done = bigs(*pretrain(bare, run, "--validation", shards, checkpoint__keep_best="true")).fine()
    assert f"Validating on the held-out {len_of(shards)} rows of {shards}." in done.err
    assert metrics(run) == metrics(pretrained)
    measured = json.loads(bigs("eval", "mlm", "--json", "--model", run).fine().out)["metrics"]
    assert measured["loss"] == pytest.approx(metrics(run)["heldout_loss"], rel=1e-5)
    by_key = tmp_path / "by-key"
    bigs(*pretrain(bare, by_key, data__validation=shards)).fine()
    assert metrics(by_key) == metrics(pretrained)


def len_of(shards: Path) -> int:
    return json.loads((shards / "manifest.json").read_text())["splits"]["heldout"][0]["rows"]


def test_the_data_digest_includes_the_validation_data(shards: Path, bare: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", shutil.copytree(shards, tmp_path / "other")
    bigs(*pretrain(shards, run, "--validation", bare, checkpoint__every_steps=3)).fine()
    before = metrics(run)
    shutil.rmtree(run / "checkpoints" / "6")
    (run / "results.json").unlink()
    bigs("pretrain", "--resume", "--run", run).fine()
    assert metrics(run) == before
    changed = snapshot(run)
    done = bigs("pretrain", "--resume", "--run", run, "--validation", other)
    assert (done.code, done.out) == (2, "")
    assert "(changed: validation)" in done.err
    assert snapshot(run) == changed


def test_invalid_validation_data_is_rejected(shards: Path, bare: Path, tmp_path: Path) -> None:
    text, made = shards.parent / "text.jsonl", tmp_path / "made"
    for option, words in (("--length", 16), ("--train-vocab", 300)):
        cut = {"--length": 32, "--vocab": shards, option: words}
        if option == "--train-vocab":
            del cut["--vocab"]
        given = [word for pair in cut.items() for word in pair]
        bigs("tokenize", "--input", text, *given, "--heldout", 0, "--output", made / option.strip("-")).fine()
    run = tmp_path / "run"
    for place, message in (
        (bare, "contains the training rows"),
        (made / "length", "differ in sequence_length (16 instead of 32)"),
        (made / "train-vocab", "differ in vocab_size"),
        (tmp_path / "none", "There are no token shards in"),
    ):
        for more in ((), ("--dry-run",)):
            done = bigs(*pretrain(bare, run, "--validation", place, *more))
            assert (done.code, done.out) == (2, "")
            assert message in done.err
    assert not run.exists()
    shown = bigs(*pretrain(bare, run, "--validation", shards, "--dry-run")).fine()
    assert f"validation: {shards}" in shown.out


def test_hdf5_files_without_test_files(corpus: Path, tmp_path: Path) -> None:
    held, run = tmp_path / "held", tmp_path / "run"
    held.mkdir()
    (corpus / "test_0.hdf5").rename(held / "test_0.hdf5")
    done = bigs(*pretrain_hdf5(corpus, run)).fine()
    assert "Training without validation" in done.err
    assert metrics(run) == {}
    validated = tmp_path / "validated"
    bigs(*pretrain_hdf5(corpus, validated, "--validation", held)).fine()
    assert metrics(validated)["heldout_loss"] > 0
    ours, theirs = parameters(run / "checkpoints"), parameters(validated / "checkpoints")
    assert all((ours[path] == theirs[path]).all() for path in ours)
