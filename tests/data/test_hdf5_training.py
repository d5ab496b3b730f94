"""Training on the authors' HDF5 files without conversion."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bigs_cli.core.errors import BigsError
from bigs_cli.data.hdf5 import hdf5_tokenizer
from bigs_cli.reporting.metrics_log import read_metrics
from tests.data.hdf5_files import LENGTH, MASK, P, V, masked, opened, originals, pretrain, write
from tests.tiny import bigs, snapshot


def log_without_times(run: Path) -> list[dict[str, Any]]:
    times = ("tokens_per_second", "data_wait_fraction")
    return [{k: v for k, v in entry.items() if k not in times} for entry in read_metrics(run / "metrics.jsonl")]


def test_a_dry_run_shows_a_row_with_its_static_mask(corpus: Path, tmp_path: Path) -> None:
    shown = bigs(*pretrain(corpus, tmp_path / "run", "--dry-run")).fine().out
    assert f"at {P} masked positions per row" in shown
    assert "of 31: " in shown
    assert "→" in shown
    assert not (tmp_path / "run").exists()


def test_pretraining_resuming_and_evaluating(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = bigs(*pretrain(corpus, run, checkpoint__every_steps=4)).fine()
    assert done.out == f"{run}\n"
    assert "31 rows with static masks" in done.err
    steady, results = log_without_times(run), json.loads((run / "results.json").read_text())
    assert (run / "vocab.txt").read_text() == (corpus / "vocab.txt").read_text()
    words = int((masked(originals(9, 2), 2)["masked_lm_ids"] > 0).sum())
    assert results["metrics"]["heldout_predictions"] == words

    # The files may have been moved, and their vocabulary may be missing.
    moved = corpus.rename(tmp_path / "moved")
    (moved / "vocab.txt").unlink()
    (run / "results.json").unlink()
    shutil.rmtree(run / "checkpoints" / "6")
    again = bigs(*pretrain(moved, run, "--resume")).fine()
    assert "after step 4" in again.err
    assert log_without_times(run) == steady
    assert json.loads((run / "results.json").read_text())["metrics"] == results["metrics"]

    measured = json.loads(bigs("eval", "mlm", "--model", run, "--data", moved, "--json").fine().out)["metrics"]
    assert measured["loss"] == pytest.approx(results["metrics"]["heldout_loss"], rel=1e-5)
    assert measured["predictions"] == words
    held_out, train = originals(9, 2), np.concatenate([originals(20, 0), originals(11, 1)])
    counts = np.bincount(train[train > MASK], minlength=V) + 1
    expected = -np.log(counts / counts.sum())[held_out[held_out > MASK]].mean()
    # The smoothed count of special tokens has little effect on the others.
    assert measured["unigram_loss"] == pytest.approx(expected, abs=0.01)

    arrays = masked(originals(11, 1), 5)
    write(moved / "train_1.hdf5", arrays)
    before = snapshot(run)
    refused = bigs(*pretrain(moved, run, "--resume"))
    assert refused.code == 2
    assert "is not what" in refused.err
    assert snapshot(run) == before


def test_token_types_reach_the_model(corpus: Path, tmp_path: Path) -> None:
    losses = []
    for name in ("as they are", "all 0"):
        bigs(*pretrain(corpus, tmp_path / name, steps=2, log_every=1)).fine()
        losses.append(log_without_times(tmp_path / name)[0]["loss"])
        for path in corpus.glob("*.hdf5"):
            with h5py.File(path, "r+") as file:
                file["segment_ids"][...] = 0  # pyright: ignore
    assert losses[0] != losses[1]


def test_the_digest_depends_only_on_the_content(corpus: Path, tmp_path: Path) -> None:
    digest = opened(corpus).digest
    copy = shutil.copytree(corpus, tmp_path / "copy")
    assert opened(copy).digest == digest
    with h5py.File(copy / "train_1.hdf5", "r+") as file:
        file["masked_lm_ids"][0, 0] = 777  # pyright: ignore
    assert opened(copy).digest != digest
    (corpus / "train_1.hdf5").rename(corpus / "test_1.hdf5")
    assert opened(corpus).digest != digest


def test_a_corpus_without_train_files_says_what_to_do(corpus: Path, tmp_path: Path) -> None:
    (corpus / "test_0.hdf5").rename(corpus / "held.hdf5")
    assert "held.hdf5 is skipped" in bigs(*pretrain(corpus, tmp_path / "run", "--dry-run")).fine().err
    for number in range(2):
        (corpus / f"train_{number}.hdf5").rename(corpus / f"test_{number}.hdf5")
    refused = bigs(*pretrain(corpus, tmp_path / "run"))
    assert refused.code == 2
    assert "has only test files" in refused.err
    assert not (tmp_path / "run").exists()


def test_a_corpus_that_does_not_match_the_recipe_is_refused(corpus: Path, tmp_path: Path) -> None:
    refused = bigs(*pretrain(corpus, tmp_path / "run", data__sequence_length=16))
    assert refused.code == 2
    assert f"data.sequence_length={LENGTH}" in refused.err
    refused = bigs(*pretrain(corpus, tmp_path / "run"), "--set", "model.vocab_size=999")
    assert refused.code == 2
    assert "model.vocab_size=1000" in refused.err
    assert not (tmp_path / "run").exists()


def test_without_a_tokenizer_the_published_one_is_requested(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    (corpus / "vocab.txt").unlink()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        with pytest.raises(BigsError) as error:
            hdf5_tokenizer(corpus, "google-bert/bert-large-uncased")
    message = str(error.value)
    assert f"The HDF5 files in {corpus} contain no tokenizer" in message
    assert "google-bert/bert-large-uncased" in message
    assert f"put the vocab.txt with which the files were made into {corpus}" in message
