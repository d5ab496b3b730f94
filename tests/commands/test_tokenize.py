"""`bigs tokenize`: from a file to shards, killed and resumed builds, checks of shards, and invalid options."""

from __future__ import annotations

import json
import random
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bigs_cli.data.shards import open_shards
from tests.data.test_build import content
from tests.tiny import HANG, bigs, wait_until

WORDS = "the a river stone bridge crosses under over slowly water old light of and near falls"

# A process that saves its progress as often as a long run, with little text.
HURRIED = (
    "import sys; from bigs_cli.data import build; build.SAVE_SECONDS, build.BATCH_CHARACTERS = 0.0, 3000; "
    "from bigs_cli.cli import main; main()"
)
# … and that kills itself (SIGKILL) a given time after a given number of saves.
KILLED = """
import os, sys, threading
from bigs_cli.data import staging
left, delay, save = int(sys.argv.pop(1)), float(sys.argv.pop(1)), staging.Staging.save
def end():
    os.kill(os.getpid(), 9)
def save_and_end(self, progress):
    global left
    save(self, progress)
    left -= 1
    if not left:
        threading.Timer(delay, end).start() if delay else end()
staging.Staging.save = save_and_end
"""


@pytest.fixture
def text(tmp_path: Path) -> Path:
    rng = random.Random(0)
    file = tmp_path / "text.jsonl"
    lines = (json.dumps({"text": " ".join(rng.choices(WORDS.split(), k=rng.randint(20, 200)))}) for _ in range(60))
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_trained_vocabulary_can_be_reused(tmp_path: Path, text: Path) -> None:
    common = ("tokenize", "--input", text, "--length", 32, "--heldout", 0.2)
    first = bigs(*common, "--train-vocab", 180, "--output", tmp_path / "a").fine()
    assert first.out == f"{tmp_path / 'a' / 'manifest.json'}\n"
    assert "sentences" in first.err
    assert "tokens/s" in first.err
    bigs(*common, "--vocab", tmp_path / "a" / "vocab.txt", "--output", tmp_path / "b").fine()
    a, b = open_shards(tmp_path / "a").manifest, open_shards(tmp_path / "b").manifest
    assert (a.splits, a.tokenizer, a.packing) == (b.splits, b.tokenizer, b.packing)
    assert a.report.documents == 60
    assert a.special_ids["[MASK]"] == 103


def test_killed_at_random_moments_and_resumed(tmp_path: Path) -> None:
    rng = random.Random(1)
    file = tmp_path / "text.jsonl"
    lines = (json.dumps({"text": ". ".join(rng.choices(WORDS.split(), k=200))}) for _ in range(2000))
    file.write_text("\n".join(lines) + "\n")
    arguments = ["tokenize", "--input", file, "--length", 32, "--heldout", 0.1, "--train-vocab", 180, "--workers", 2]
    command = [*map(str, arguments), "--drop-duplicates", "--cross-documents", "--output"]
    subprocess.run([sys.executable, "-c", HURRIED, *command, str(tmp_path / "whole")], check=True, capture_output=True)
    parts, codes = str(tmp_path / "parts"), []
    for saves, delay in ((5, 0.0), (30, rng.uniform(0, 0.05)), (30, rng.uniform(0, 0.05)), (10**9, 0.0)):
        killed = [sys.executable, "-c", KILLED + HURRIED, str(saves), str(delay), *command, parts, "--resume"]
        codes.append(subprocess.run(killed, capture_output=True, check=False, timeout=HANG).returncode)
    assert (codes[0], codes[-1]) == (-signal.SIGKILL, 0)
    assert content(tmp_path / "parts") == content(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(tmp_path: Path, text: Path, number: signal.Signals) -> None:
    text.write_text(text.read_text() * 400)
    out = tmp_path / "out"
    command = [sys.executable, "-c", HURRIED, "tokenize", "--input", str(text), "--length", "32"]
    running = subprocess.Popen(
        [*command, "--train-vocab", "180", "--output", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_until((out / ".partial" / "progress.json").exists, running)
    running.send_signal(number)
    printed, err = running.communicate(timeout=HANG)
    assert (running.returncode, printed) == (130, b""), err
    assert f"Continue with: bigs tokenize --resume --output {out}\n".encode() in err
    assert b"Traceback" not in err
    assert "unfinished" in bigs("tokenize", "--show", out).err


def test_resume_needs_only_the_output_folder(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The printed command works in another working directory, and still skips unreadable records."""
    from bigs_cli.data import build

    text.write_text(text.read_text() + "{bad\n" + text.read_text())
    monkeypatch.chdir(tmp_path)
    cut = ("--input", text.name, "--length", 32, "--train-vocab", 180, "--heldout", 0.2, "--skip-bad")
    bigs("tokenize", *cut, "--output", "whole").fine()
    assert "no unfinished tokenization in none" in bigs("tokenize", "--resume", "--output", "none").err
    save = build.Staging.save

    def stop(self: build.Staging, progress: build.Progress) -> None:
        save(self, progress)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "BATCH_CHARACTERS", 1500)
        patch.setattr(build, "SAVE_SECONDS", 0.0)
        patch.setattr(build.Staging, "save", stop)
        ended = bigs("tokenize", *cut, "--output", "two parts")
    assert ended.code == 130
    (line,) = [line for line in ended.err.splitlines() if "Continue with: " in line]
    command = shlex.split(line.partition("Continue with: ")[2])
    assert command == ["bigs", "tokenize", "--resume", "--output", "two parts"]
    assert f"`{shlex.join(command)}`" in bigs("tokenize", *cut, "--output", "two parts").err
    assert bigs(*command[1:], "--length", 16).code == 2
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    made = tmp_path / "two parts"
    assert bigs(*command[1:-1], made).fine().out == f"{made}/manifest.json\n"
    assert content(made) == content(tmp_path / "whole")
    assert bigs(*command[1:-1], made).fine().out == f"{made}/manifest.json\n"


def test_options_for_several_inputs(tmp_path: Path, text: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("The river.\nThe stone.\n")
    bigs(
        *("tokenize", "--input", text, "--weight", 2, "--input", lines, "--weight", 1, "--text-column", "text"),
        *("--text-documents", "line", "--split", "paragraphs", "--min-tokens", 1, "--drop-duplicates"),
        *("--length", 32, "--heldout", 0, "--train-vocab", 180, "--output", tmp_path / "out"),
    ).fine()
    manifest = open_shards(tmp_path / "out").manifest
    assert manifest.report.documents == 122
    assert manifest.packing is not None
    assert manifest.packing.split == "paragraphs"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--vocab", "x.txt", "--train-vocab", "200"), "Use exactly one of --vocab FILE"),
        ((), "Use exactly one of --vocab FILE"),
        (("--vocab", "missing.txt"), "There is no vocabulary missing.txt"),
        (("--train-vocab", "50"), "too small"),
        (("--train-vocab", "180", "--length", "2"), "--length 2 is too short"),
        (("--train-vocab", "180", "--length", "0"), "--length 0 is too short"),
        (("--train-vocab", "180", "--text-column", "body"), "no column 'body'"),
        (("--train-vocab", "180", "--input", "nothing.txt"), "no file or folder nothing.txt"),
        (("--train-vocab", "180", "--weight", "1", "--weight", "2"), "Give one --weight per --input"),
        (("--train-vocab", "1000000000000"), "Invalid value for '--train-vocab'"),
        (("--train-vocab", "180", "--weight", "0"), "--weight must be above 0"),
        (("--train-vocab", "180", "--resume", "--overwrite"), "either --resume"),
        (("--check", "somewhere"), "--check only verifies existing shards. Leave out --input, --output, --length."),
    ],
)
def test_invalid_options_are_refused_and_change_nothing(
    tmp_path: Path, text: Path, change: tuple[str, ...], message: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = bigs("tokenize", "--input", text, "--length", 32, "--output", tmp_path / "out", *change)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "No input was given"),
        (("--input", "x.txt"), "--output DIR"),
        (("--input", "x.txt", "--output", "out"), "--length 128"),
        (("--show", "a", "--check", "b"), "--check only verifies existing shards. Leave out --show."),
        (("--show", "a", "--part", "1/2"), "--show only prints rows of existing shards. Leave out --part."),
        (
            ("--merge", "--output", "a", "--heldout", "0.005"),
            "--merge only joins the parts in --output. Leave out --heldout.",
        ),
        (("--merge",), "--output DIR"),
        (("--resume", "--output", "a", "--split", "sentences"), "with its original settings"),
        (("--show", "none"), "There are no token shards in none"),
    ],
)
def test_missing_or_contradictory_options_are_refused(arguments: tuple[str, ...], message: str) -> None:
    done = bigs("tokenize", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_shards_are_overwritten_only_with_overwrite(tmp_path: Path, text: Path) -> None:
    arguments = ("--input", text, "--length", 32, "--heldout", 0.2, "--train-vocab", 180, "--output", tmp_path / "out")
    bigs("tokenize", *arguments).fine()
    assert "--overwrite" in bigs("tokenize", *arguments).err
    bigs("tokenize", *arguments, "--overwrite").fine()


def test_check_names_every_bad_shard(shards: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shards, tmp_path / "shards")
    done = bigs("tokenize", "--check", folder).fine()
    assert "all shards are valid" in done.out
    for name in ("train-00000.bin", "heldout-00000.bin"):
        data = bytearray((folder / name).read_bytes())
        data[40] ^= 1
        (folder / name).write_bytes(data)
    done = bigs("tokenize", "--check", folder)
    assert (done.code, done.out) == (1, "")
    assert "train-00000.bin" in done.err
    assert "heldout-00000.bin" in done.err
    assert "train-00000.bin was modified" in bigs("tokenize", "--show", folder).err
    (folder / "train-00000.bin").write_bytes(b"")
    (folder / "vocab.txt").write_text("[PAD]\n")
    done = bigs("tokenize", "--check", folder)
    assert (done.code, done.out) == (1, "")
    for name in ("train-00000.bin was modified", "heldout-00000.bin was modified", "vocab.txt is not the vocabulary"):
        assert name in done.err


def test_show_prints_masked_rows(shards: Path) -> None:
    done = bigs("tokenize", "--show", shards, "--examples", 2).fine()
    assert done.out.count("[CLS]") == 2
    assert "[MASK]" in done.out
    assert done == bigs("tokenize", "--show", shards, "--examples", 2)


def test_hdf5_shards_are_converted(shared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hdf5"
    folder.mkdir()
    shutil.copy(shared / "fixtures" / "train_shard_0.hdf5", folder)
    vocab = tmp_path / "vocab.txt"
    words = ["[PAD]", *(f"w{i}" for i in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab.write_text("\n".join([*words, *(f"w{i}" for i in range(104, 1000))]) + "\n")
    convert = ("tokenize", "--input", folder, "--vocab", vocab, "--heldout", 0.3)
    wrong = bigs(*convert, "--length", 128, "--output", tmp_path / "out")
    assert (wrong.code, wrong.out) == (2, "")
    assert "have 64 tokens" in wrong.err
    done = bigs(*convert, "--output", tmp_path / "out").fine()
    assert done.out == f"{tmp_path / 'out' / 'manifest.json'}\n"
    manifest = open_shards(tmp_path / "out").manifest
    assert manifest.rows("train") + manifest.rows("heldout") == 16
    assert manifest.packing is None
    assert (
        "converted without repacking. Leave out --resume."
        in bigs(*convert, "--resume", "--output", tmp_path / "other").err
    )
    one = bigs("tokenize", "--input", folder / "train_shard_0.hdf5", "--output", tmp_path / "other")
    assert "Name the folder that contains it" in one.err
