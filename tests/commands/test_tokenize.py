"""`bigs tokenize` through its Typer application: from a file to shards, and every way to ask for it wrongly."""

import json
import random

import pytest
import typer
from typer.testing import CliRunner

from bigs_cli.commands.tokenize import tokenize
from bigs_cli.core.errors import RequestError
from bigs_cli.data.shards import open_shards

WORDS = "the a river stone bridge crosses under over slowly water old light of and near falls"


@pytest.fixture
def text(tmp_path):
    rng = random.Random(0)
    file = tmp_path / "text.jsonl"
    lines = (json.dumps({"text": " ".join(rng.choices(WORDS.split(), k=rng.randint(20, 200)))}) for _ in range(60))
    file.write_text("\n".join(lines) + "\n")
    return file


def run(*arguments):
    app = typer.Typer()
    app.command()(tokenize)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_trained_vocabulary_then_the_same_one_again(tmp_path, text):
    common = ("--input", text, "--length", 32, "--heldout", 0.2)
    first = run(*common, "--train-vocab", 180, "--output", tmp_path / "a")
    assert first.exit_code == 0
    assert first.stdout.strip() == str(tmp_path / "a" / "manifest.json")
    assert "documents" in first.stderr
    second = run(*common, "--vocab", tmp_path / "a" / "vocab.txt", "--output", tmp_path / "b")
    assert second.exit_code == 0
    a, b = open_shards(tmp_path / "a").manifest, open_shards(tmp_path / "b").manifest
    assert a.model_copy(update={"report": None}) == b.model_copy(update={"report": None})
    assert a.report.documents == 60
    assert a.special_ids["[MASK]"] == 103


def test_limit_column_and_several_inputs(tmp_path, text):
    run(
        *("--input", text, "--input", text, "--text-column", "text", "--limit-documents", 90),
        *("--length", 32, "--heldout", 0, "--train-vocab", 180, "--output", tmp_path / "out"),
    )
    assert open_shards(tmp_path / "out").manifest.report.documents == 90


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--vocab", "x.txt", "--train-vocab", "200"), "Exactly one vocabulary"),
        ((), "Exactly one vocabulary"),
        (("--vocab", "missing.txt"), "There is no vocabulary missing.txt"),
        (("--train-vocab", "50"), "too small"),
        (("--train-vocab", "180", "--length", "2"), "--length 2 is too short"),
        (("--train-vocab", "180", "--text-column", "body"), "no column 'body'"),
        (("--train-vocab", "180", "--input", "nothing.txt"), "no file or folder nothing.txt"),
        (("--train-vocab", "180", "--heldout", "1e-9"), "fell into the held-out part"),
    ],
)
def test_wrong_requests_are_sentences_and_change_nothing(tmp_path, text, change, said):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RequestError) as error:
        run("--input", text, "--length", 32, "--output", tmp_path / "out", *change)
    assert said in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_shards_are_not_overwritten_unasked(tmp_path, text):
    arguments = ("--input", text, "--length", 32, "--heldout", 0.2, "--train-vocab", 180, "--output", tmp_path / "out")
    run(*arguments)
    with pytest.raises(RequestError, match="--overwrite"):
        run(*arguments)
    assert run(*arguments, "--overwrite").exit_code == 0
