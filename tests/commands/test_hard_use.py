"""Careless and hostile uses of the command line: no files of the user are lost, and an error explains the problem."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bigs_cli.checkpoints.folder import read_model, write_flax
from bigs_cli.commands.runs import app as runs_app
from tests.tiny import HANG, bigs, start_bigs, wait_until

TEXTS = ["The old river runs to the sea.", "A stone bridge is old."]
STANDING = {"kept.txt": "mine", "train-2024.bin": "mine", "heldout-x.bin": "mine", "tokenizer.json": "mine"}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in TEXTS))
    return path


@pytest.fixture
def classifier(models: Path) -> Path:
    return models / "sequence-classification"


def tokenize(text: Path, models: Path, output: Path, *more: object) -> tuple[object, ...]:
    vocab = models / "masked-lm" / "tokenizer.json"
    given = ("--input", text, "--length", 32, "--vocab", vocab, "--heldout", 0, "--workers", 1)
    return "tokenize", *given, "--output", output, *more


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_shards_are_not_written_into_a_folder_with_other_files(
    more: tuple[str, ...], text: Path, models: Path, tmp_path: Path
) -> None:
    output = tmp_path / "mine"
    output.mkdir()
    for name, content in STANDING.items():
        (output / name).write_text(content)
    done = bigs(*tokenize(text, models, output, *more))
    assert (done.code, done.out) == (2, "")
    assert "contains other files (heldout-x.bin, kept.txt, tokenizer.json and 1 more)" in done.err
    assert {path.name: path.read_text() for path in output.iterdir()} == STANDING


def test_overwrite_replaces_only_shards(text: Path, models: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    bigs(*tokenize(text, models, output)).fine()
    (output / "train-2024.bin").write_text("mine")
    (output / "train-00007.bin").write_text("of an earlier tokenization")
    bigs(*tokenize(text, models, output, "--overwrite")).fine()
    assert (output / "train-2024.bin").read_text() == "mine"
    assert not (output / "train-00007.bin").exists()


@pytest.mark.parametrize("link", [True, False])
def test_a_foreign_staging_folder_is_not_touched(link: bool, text: Path, models: Path, tmp_path: Path) -> None:
    output, held = tmp_path / "out", tmp_path / "held"
    output.mkdir()
    (held if link else output / ".partial").mkdir()
    if link:
        (output / ".partial").symlink_to(held)
    kept = output / ".partial" / "thesis.doc"
    kept.write_text("mine")
    done = bigs(*tokenize(text, models, output, "--overwrite"))
    assert (done.code, done.out) == (2, "")
    assert f"{output / '.partial'} was not made by bigs." in done.err
    assert kept.read_text() == "mine"


def test_evaluation_does_not_overwrite_its_data(classifier: Path, models: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("good,bad\nthe river runs,river the runs\n")
    before = pairs.read_bytes()
    refused = bigs("eval", "pairs", "--model", models / "masked-lm", "--data", pairs, "--predictions", pairs)
    assert (refused.code, pairs.read_bytes()) == (2, before)
    assert f"--predictions {pairs} belongs to --data and would be overwritten." in refused.err
    (tmp_path / "MRPC").mkdir()
    table = tmp_path / "MRPC" / "dev.tsv"
    table.write_text("x")
    refused = bigs("eval", "mrpc", "--model", classifier, "--data", tmp_path, "--predictions", table)
    assert (refused.code, table.read_text()) == (2, "x")


def test_only_temporary_files_of_bigs_are_removed(classifier: Path, tmp_path: Path) -> None:
    names = (".ans.jsonl.original", ".ans.jsonl.20260101")
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".ans.jsonl.bigs-a1b2c3d4").write_text("of a process that was killed")
    bigs("predict", "--model", classifier, "a river", "--output", tmp_path / "ans.jsonl").fine()
    assert {path.name for path in tmp_path.iterdir()} == {*names, "ans.jsonl"}
    (tmp_path / ".made.partial").mkdir()
    (tmp_path / ".made.partial" / "mine").write_text("mine")
    bigs("export", "--model", classifier, "--output", tmp_path / "made").fine()
    assert (tmp_path / ".made.partial" / "mine").read_text() == "mine"


def test_output_follows_links_and_accepts_dev_stdout(classifier: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "there" / "answers.jsonl", tmp_path / "link.jsonl"
    target.parent.mkdir()
    target.write_text("old")
    link.symlink_to(target)
    bigs("predict", "--model", classifier, "a river", "--output", link).fine()
    assert link.is_symlink()
    assert json.loads(target.read_text())["text"] == "a river"
    (tmp_path / "out.jsonl").symlink_to("/proc/self/fd/1")
    with (tmp_path / "got.txt").open("w") as got:
        command = [sys.executable, "-m", "bigs_cli", "predict", "--model", classifier, "a river"]
        subprocess.run([*command, "--output", tmp_path / "out.jsonl"], stdout=got, check=True, capture_output=False)
    assert (tmp_path / "out.jsonl").is_symlink()
    assert json.loads((tmp_path / "got.txt").read_text())["text"] == "a river"


def test_pipes_and_devices_are_refused_without_waiting(text: Path, models: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zeros.csv").symlink_to("/dev/zero")
    refused = bigs(*tokenize(tmp_path / "pipe.txt", models, tmp_path / "out"))
    assert (refused.code, f"{tmp_path / 'pipe.txt'} is a pipe or a device." in refused.err) == (2, True)
    refused = bigs("finetune", "--train", tmp_path / "zeros.csv", "--dev", text, "--from", models / "encoder")
    assert (refused.code, "is a pipe or a device." in refused.err) == (2, True)
    os.mkfifo(tmp_path / "pipe.yaml")
    refused = bigs("recipes", "validate", tmp_path / "pipe.yaml")
    assert (refused.code, "is a pipe. Name a YAML file" in refused.err) == (2, True)
    bigs(*tokenize(tmp_path, models, tmp_path.parent / f"{tmp_path.name}-out")).fine()  # skipped inside a folder


def test_names_that_are_not_utf8_are_refused(text: Path, models: Path, tmp_path: Path) -> None:
    strange = Path(os.fsdecode(bytes(tmp_path) + b"/t\xff.jsonl"))
    text.rename(strange)
    for source in (strange, tmp_path):
        refused = bigs(*tokenize(source, models, tmp_path / "out"))
        assert refused.code == 2
        assert "t\\udcff.jsonl is not UTF-8. Rename the file." in refused.err
    refused = bigs("pretrain", "--recipe", "small", "--set", os.fsdecode(b"\xff=1"))
    assert (refused.code, "This is not UTF-8" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (f"{'a.' * 3000}a=1", "the maximum is 16"),
        ("data.path=''", "'data.path' should have at least 1 character, not ''."),
        ("steps=many", "'steps' should be a whole number, not 'many'."),
    ],
)
def test_invalid_settings_are_refused(given: str, message: str) -> None:
    refused = bigs("pretrain", "--recipe", "small", "--set", given, "--dry-run")
    assert (refused.code, refused.out) == (2, "")
    assert message in refused.err


def test_export_into_links_and_irreplaceable_folders(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    refused = bigs("export", "--model", classifier, "--output", ".")
    assert (refused.code, "is the working directory" in refused.err) == (2, True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    bigs("export", "--model", classifier, "--output", tmp_path / "link").fine()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "empty" / "config.json").is_file()
    (tmp_path / ".made.bigs-partial").write_text("in the way")
    refused = bigs("export", "--model", classifier, "--output", tmp_path / "made")
    assert (refused.code, "exists and is not a folder" in refused.err) == (2, True)


def test_nan_weights_are_reported(classifier: Path, tmp_path: Path) -> None:
    loaded = read_model(classifier)
    nan_weights = {path: np.full_like(array, np.nan) for path, array in loaded.flat.items()}
    (tmp_path / "nan").mkdir()
    write_flax(tmp_path / "nan", loaded.config, nan_weights)
    (tmp_path / "nan" / "tokenizer.json").write_bytes((classifier / "tokenizer.json").read_bytes())
    for verb in (("predict", "a river"), ("export", "--output", tmp_path / "made")):
        failed = bigs(*verb, "--model", tmp_path / "nan")
        assert (failed.code, failed.out) == (1, "")
        assert "produced NaN or Inf; its weights are corrupt or training diverged." in failed.err
    assert not (tmp_path / "made").exists()


def test_a_config_of_too_many_layers_is_refused_at_once(classifier: Path, tmp_path: Path) -> None:
    values = json.loads((classifier / "config.json").read_text()) | {"num_hidden_layers": 10**9}
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "flax_model.msgpack").write_bytes((classifier / "flax_model.msgpack").read_bytes())
    refused = bigs("predict", "a river", "--model", tmp_path)
    assert (refused.code, "num_hidden_layers" in refused.err) == (2, True)


def test_lone_surrogates_are_written_as_json_escapes(classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a river", "id": "\\ud800"}\n')
    output = tmp_path / "out.jsonl"
    bigs("predict", "--model", classifier, "--input", tmp_path / "in.jsonl", "--output", output).fine()
    assert json.loads(output.read_text())["id"] == "\ud800"


def test_closed_and_ascii_streams(classifier: Path) -> None:
    def run(redirected: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = f'exec "{sys.executable}" -m bigs_cli predict --model "{classifier}" {redirected}'
        return subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, env=os.environ | environment, check=False
        )

    for redirected in ("hi >&-", "hi 2>&-"):
        assert (run(redirected).returncode, redirected) == (0, redirected)
    nothing = run("<&-")
    assert (nothing.returncode, "Traceback" in nothing.stderr) == (2, False)
    assert "There is no text" in nothing.stderr
    refused = run("--top 0 hi 2>&-")
    assert (refused.returncode, refused.stdout) == (2, "")
    plain = run("'“hi” é😀\u0085' --format jsonl", PYTHONIOENCODING="ascii")
    assert (plain.returncode, json.loads(plain.stdout)["text"]) == (0, "“hi” é😀\u0085")


def test_an_unavailable_platform_is_refused(classifier: Path) -> None:
    running = start_bigs("predict", "--model", classifier, "hi", JAX_PLATFORMS="cuda")
    out, err = running.communicate(timeout=HANG)
    assert (running.returncode, out) == (2, "")
    assert "JAX finds no device for JAX_PLATFORMS=cuda (" in err


def test_a_missing_home_folder_is_refused(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("BIGS_CACHE", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    refused = bigs("predict", "--model", classifier, "hi")
    assert (refused.code, "BIGS_CACHE=FOLDER bigs" in refused.err) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_export_leaves_nothing(number: signal.Signals, classifier: Path, tmp_path: Path) -> None:
    running = start_bigs("export", "--model", classifier, "--output", tmp_path / "made", "--format", "stablehlo")
    wait_until(lambda: list(tmp_path.glob(".made*")), running)
    running.send_signal(number)
    _, err = running.communicate(timeout=HANG)
    assert (running.returncode, "Traceback" in err) == (130, False), err
    assert not list(tmp_path.iterdir())


def test_an_unreadable_runs_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGS_RUNS", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    refused = bigs("runs", "list")
    assert (refused.code, "cannot be read: permission denied" in refused.err) == (2, True)


def test_help_of_every_group_ends_with_an_example() -> None:
    assert runs_app.info.epilog is not None
    for group in ("runs", "recipes", "bench"):
        assert "Example" in bigs(group, "--help").out


def test_hdf5_links_to_other_files_are_refused(tmp_path: Path, shards: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "h").mkdir()
    names = ("input_ids", "input_mask", "segment_ids", "masked_lm_positions", "masked_lm_ids")
    with h5py.File(tmp_path / "secret.h5", "w") as secret, h5py.File(tmp_path / "h" / "train_0.hdf5", "w") as made:
        for name in names:
            secret[name] = np.ones((2, 8), np.int32)
            made[name] = h5py.ExternalLink(tmp_path / "secret.h5", name)
    given = ("tokenize", "--input", tmp_path / "h", "--vocab", shards / "tokenizer.json", "--output", tmp_path / "out")
    refused = bigs(*given)
    assert (refused.code, "input_ids is a link to another file" in refused.err) == (2, True), refused.err
    with h5py.File(tmp_path / "h" / "train_0.hdf5", "w") as made:
        for name in names:
            (tmp_path / name).write_bytes(bytes(64))
            made.create_dataset(name, (2, 8), np.int32, external=[(str(tmp_path / name), 0, 64)])
    refused = bigs(*given)
    assert (refused.code, "input_ids is a link to another file" in refused.err) == (2, True), refused.err
