"""`bigs bench load` with small corpora: its output, and that it leaves no temporary files."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from bigs_cli.bench.corpus import GrowingCorpus, source_rows
from bigs_cli.bench.load import corpus_sizes
from bigs_cli.data.shards import open_shards
from bigs_cli.data.verify import verify
from tests.data.tiny import numbered, write_shards
from tests.tiny import HANG, bigs, start_bigs, wait_until

QUICK = ("--tokens", 20_000, "--sizes", 2, "--seconds", 0.1, "--batch", 4)
SIZE = {
    "length": int,
    "tokens": int,
    "shards": int,
    "disk_bytes": int,
    "first_verification_s": float,
    "start_up_s": float,
    "start_up_ratio": float,
    "start_ups_s": list,
    "tokens_per_second": float,
    "rate_ratio": float,
    "rates": list,
    "memory_bytes": (int, type(None)),
}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("bigs_cli.bench.load._STARTS", 1)
    return folder


def test_results_as_json_and_as_a_table(temporary: Path, tmp_path: Path) -> None:
    done = bigs("bench", "load", *QUICK, "--length", 16, "--length", 32, "--json", tmp_path / "load.json").fine()
    assert not list(temporary.iterdir())
    assert "Needs up to 0.00 GB of disk" in done.err
    assert "Rows of 16 tokens, batches of 4" in done.out
    assert "Rows of 32 tokens, corpora up to 625 times the smallest: start-up takes at most" in done.out
    report = json.loads((tmp_path / "load.json").read_text())
    assert report["bench"] == "load"
    assert report["settings"] == {"data": None, "batch": 4, "tokens": 20_000, "seconds": 0.1}
    assert {"python", "cores", "processor", "packages", "command"} <= report["machine"].keys()
    assert [(size["length"], size["tokens"]) for size in report["sizes"]] == [
        (16, 32), (16, 20_000), (32, 32), (32, 20_000),
    ]  # fmt: skip
    for size in report["sizes"]:
        assert size.keys() == SIZE.keys()
        assert all(isinstance(size[name], kind) for name, kind in SIZE.items())
        assert size["disk_bytes"] == 2 * size["tokens"]
        assert 0 <= size["first_verification_s"] < size["start_up_s"] == min(size["start_ups_s"])
        assert size["tokens_per_second"] == max(size["rates"]) > 0
    assert report["sizes"][0]["start_up_ratio"] == report["sizes"][0]["rate_ratio"] == 1
    assert [flat["length"] for flat in report["summary"]] == [16, 32]
    for flat, size in zip(report["summary"], report["sizes"][1::2], strict=True):
        assert flat["longest_start_up_ratio"] == max(1, size["start_up_ratio"])
        assert flat["lowest_rate_ratio"] == min(1, size["rate_ratio"])


def test_only_json_on_stdout_for_given_shards(temporary: Path, tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", numbered(300), numbered(1))
    done = bigs("bench", "load", *QUICK, "--length", 16, "--data", shards, "--json", "-").fine()
    report = json.loads(done.out)
    assert report["settings"]["data"] == str(shards)
    assert len(report["sizes"]) == 2
    assert not list(temporary.iterdir())


def test_invalid_requests_are_rejected_before_measuring(temporary: Path, tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", numbered(3), numbered(1))
    for arguments, sentence in (
        (("--data", shards, "--length", 16), "has fewer than 16 tokens"),
        (("--tokens", 1e15), "Lower --tokens, or name another temporary folder with TMPDIR"),
        (("--json", shards / "manifest.json" / "load.json"), "manifest.json is not a folder. Name another path."),
        (("--json", tmp_path), "is a folder. Name a file."),
    ):
        done = bigs("bench", "load", *arguments)
        assert done.code == 2
        assert sentence in done.err
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_files(number: signal.Signals, temporary: Path) -> None:
    started = start_bigs("bench", "load", "--tokens", "1e5", "--sizes", 2, "--seconds", 60, TMPDIR=str(temporary))
    wait_until(lambda: list(temporary.glob("*/shards/manifest.json")), started)
    assert list(temporary.glob("*/shards/manifest.json"))
    started.send_signal(number)
    started.communicate(timeout=HANG)
    assert started.returncode == 130
    assert not list(temporary.iterdir())


def test_corpus_sizes_form_a_geometric_sequence() -> None:
    sizes = corpus_sizes(10**9, 10)
    assert (len(sizes), sizes[0], sizes[-1]) == (10, 10**6, 10**9)
    np.testing.assert_allclose(np.divide(sizes[1:], sizes[:-1]), 1000 ** (1 / 9), rtol=1e-5)


def test_a_growing_corpus_is_valid_at_every_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigs_cli.data.shard_writer.SHARD_BYTES", 10 * 4 * 2)
    corpus = GrowingCorpus(tmp_path / "shards", numbered(7), 30)
    for rows in (1, 5, 33, 34, 60):
        corpus.grow(rows)
        opened = open_shards(corpus.folder)
        verify(opened)
        taken = opened.split("train").take(np.arange(rows))["input_ids"]
        np.testing.assert_array_equal(taken, numbered(7)[np.arange(rows) % 7])
    assert len(opened.manifest.splits["train"]) == 6


def test_random_tokens_follow_zipfs_law() -> None:
    rows, vocab_size = source_rows(None, 128)
    assert rows.shape[1] == 128
    counts = np.bincount(rows.ravel(), minlength=vocab_size)
    # Rank 1 to 9 and rank 100 to 999, by Zipf's law: log 10 to log 10.
    assert counts[1:10].sum() == pytest.approx(counts[100:1000].sum(), rel=0.02)
    assert len(counts) == vocab_size
