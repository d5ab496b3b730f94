"""Shards, runs and models include their tokenizer; shards of another tokenizer are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bigs_cli.data.tokenizer import fingerprint, load_tokenizer
from tests.tiny import DOCUMENTS, LENGTH, bigs, pretrain


@pytest.fixture(scope="module")
def others(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of the same text, with the words of the vocabulary in another order."""
    folder = tmp_path_factory.mktemp("others")
    words = (shards / "vocab.txt").read_text().split("\n")[:-1]
    (folder / "vocab.txt").write_text("\n".join([*words[:104], *reversed(words[104:])]) + "\n")
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": f"{text} {text}"}) + "\n" for text in DOCUMENTS * 9))
    cut = ("--length", LENGTH, "--vocab", folder / "vocab.txt", "--heldout", 0.3)
    bigs("tokenize", "--input", folder / "text.jsonl", *cut, "--output", folder / "shards").fine()
    return folder / "shards"


def test_shards_run_and_export_have_the_same_tokenizer(shards: Path, pretrained: Path, tmp_path: Path) -> None:
    bigs("export", "--model", pretrained, "--output", tmp_path / "model").fine()
    own = {fingerprint(load_tokenizer(folder)) for folder in (shards, pretrained, tmp_path / "model")}
    assert len(own) == 1


def test_shards_of_another_tokenizer_are_refused(others: Path, pretrained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    unfinished = shutil.copytree(pretrained, tmp_path / "unfinished")
    shutil.rmtree(unfinished / "checkpoints")  # killed before its first checkpoint
    for arguments in (
        pretrain(others, run, "--from", pretrained),
        pretrain(others, unfinished, "--resume"),
        ["eval", "mlm", "--model", pretrained, "--data", others],
    ):
        done = bigs(*arguments)
        assert (done.code, done.out) == (2, ""), arguments
        assert "made with a different tokenizer than" in done.err
    assert not run.exists()
    bigs(*pretrain(others, run)).fine()


def test_modified_shards_are_not_evaluated(shards: Path, pretrained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shards, tmp_path / "shards")
    data = bytearray((folder / "heldout-00000.bin").read_bytes())
    data[40] ^= 1
    (folder / "heldout-00000.bin").write_bytes(data)
    done = bigs("eval", "mlm", "--model", pretrained, "--data", folder)
    assert (done.code, done.out) == (2, "")
    assert "heldout-00000.bin was modified" in done.err
