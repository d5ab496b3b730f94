"""Models, data, inputs and outputs at URLs. `memory://` keeps files in this process; tests/long/s3.py uses a server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from bigs_cli import load_model
from bigs_cli.core.cache import cache_root
from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.remote import Remote, fetch
from bigs_cli.reporting.metrics_log import curve, read_metrics
from tests.tiny import bigs, finetune, pretrain


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty remote file system and an empty cache."""
    monkeypatch.setenv("BIGS_CACHE", str(tmp_path / "cache"))
    system: Any = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield
    system.store.clear()


def put(source: Path, url: str) -> str:
    fsspec.filesystem("memory").put(str(source), url, recursive=True)
    return url


def losses(run: Path) -> list[float]:
    return curve(read_metrics(run / "metrics.jsonl"), "loss")[1]


def test_pretraining_from_data_and_models_at_urls(pretrained: Path, shards: Path, tmp_path: Path) -> None:
    model, data = put(pretrained, "memory://b/model"), put(shards, "memory://b/shards")
    bigs(*pretrain(shards, tmp_path / "here", "--from", pretrained, "--teacher", pretrained)).fine()
    there = ("--data", data, "--from", model, "--teacher", model)
    done = bigs(*pretrain(shards, tmp_path / "there", *there)).fine()
    assert f"Model: {model}\n" in done.err
    assert losses(tmp_path / "there") == losses(tmp_path / "here")
    recipe = (tmp_path / "there" / "recipe.yaml").read_text()
    assert f"path: {data}" in recipe
    assert f"from: {model}" in recipe
    assert list((cache_root() / "remote").glob("*/copy/model/checkpoints/*/params"))
    assert not list((cache_root() / "remote").glob("*/copy/model/checkpoints/*/optimizer"))
    shown = bigs(*pretrain(shards, tmp_path / "dry", "--data", "memory://b/none", "--dry-run")).fine()
    assert "Data at a URL is not downloaded" in shown.err
    answers = [bigs("predict", "a [MASK]", "--model", name).fine().out for name in (model, f"{model}@6")]
    assert answers[0] == answers[1]
    missing = bigs("predict", "a [MASK]", "--model", f"{model}@7")
    assert (missing.code, "There is no checkpoint" in missing.err) == (2, True), missing.err
    (tmp_path / "there" / "results.json").unlink()
    bigs("pretrain", "--resume", "--run", tmp_path / "there").fine()


def test_a_copy_is_made_once_and_again_when_files_change(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, downloaded, get = put(shards, "memory://b/shards"), [], Remote.get

    def counted(place: Remote, name: str, target: Path) -> None:
        downloaded.append(name)
        get(place, name, target)

    monkeypatch.setattr(Remote, "get", counted)
    copy = fetch(url)
    names = sorted(path.name for path in shards.iterdir())
    assert sorted(downloaded) == names
    assert fetch(f"{url}/") == copy
    assert sorted(downloaded) == names
    system: Any = fsspec.filesystem("memory")
    system.pipe(f"{url}/tokenizer.json", b"{}")
    system.rm(f"{url}/manifest.json")
    fetch(url)
    assert downloaded[len(names) :] == ["tokenizer.json"]
    assert (copy / "tokenizer.json").read_text() == "{}"
    assert not (copy / "manifest.json").exists()


def test_different_selections_share_a_copy() -> None:
    """As two commands that use different checkpoints of one run at the same time."""
    system, url = fsspec.filesystem("memory"), "memory://b/x"
    for name in ("1", "2", "3"):
        system.pipe(f"{url}/{name}", name.encode())
    fetch(url, lambda names: ["1", "2"])
    system.pipe(f"{url}/2", b"changed")
    copy = fetch(url, lambda names: ["3"])
    assert {path.name: path.read_text() for path in copy.iterdir()} == {"1": "1", "3": "3"}


def test_names_outside_the_folder_are_refused(tmp_path: Path) -> None:
    system: Any = fsspec.filesystem("memory")
    system.pipe("memory://b/x/file", b"text")
    system.store["/b/x/../../out"] = system.store["/b/x/file"]
    with pytest.raises(RequestError, match="would lie outside its copy"):
        fetch("memory://b/x")
    assert not list(tmp_path.rglob("out"))


def test_fine_tuning_and_evaluation_from_urls(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    data, run = put(glue, "memory://b/glue"), tmp_path / "run"
    bigs(*finetune("cola", pretrained, glue, tmp_path / "here")).fine()
    words = finetune("cola", put(pretrained, "memory://b/model"), glue, run)
    bigs(*(data if word == glue else word for word in words)).fine()
    assert losses(run) == losses(tmp_path / "here")
    one, two = (
        json.loads(bigs("eval", "cola", "--model", model, "--data", place, "--json").fine().out)["metrics"]
        for model, place in ((run, glue), (put(run, "memory://b/run"), data))
    )
    assert one == two
    again = bigs("eval", "cola", "--model", run, "--json").fine()
    assert json.loads(again.out)["metrics"] == one
    assert f"Data: {data} (the run's)" in again.err
    table = "memory://b/table.csv"
    fsspec.filesystem("memory").pipe(table, b"text,label\n" + b"a sunny day,good\na rainy day,bad\n" * 8)
    custom = ("--train", table, "--dev", table, "--from", pretrained, "--set", "epochs=1", "--set", "batch_size=8")
    bigs("finetune", *custom, "--run", tmp_path / "custom").fine()
    assert "accuracy" in bigs("eval", "--model", tmp_path / "custom").fine().out


def test_predictions_and_exports_at_urls(pretrained: Path, tmp_path: Path) -> None:
    system: Any = fsspec.filesystem("memory")
    system.pipe("memory://b/texts.txt", b"one [MASK] here\n")
    output = ("--output", "memory://b/answers.jsonl")
    done = bigs("predict", "--model", pretrained, "--input", "memory://b/texts.txt", *output).fine()
    assert "Wrote the predictions to memory://b/answers.jsonl." in done.err
    (line,) = system.cat("memory://b/answers.jsonl").decode().splitlines()
    assert json.loads(line)["text"] == "one [MASK] here"
    bigs("predict", "a text", "--model", pretrained, "--embed", "--output", "memory://b/vectors.npy").fine()
    system.get("memory://b/vectors.npy", str(tmp_path / "vectors.npy"))
    assert np.load(tmp_path / "vectors.npy").shape == (1, 16)
    exported = ("export", "--model", pretrained, "--output", "memory://b/model")
    assert bigs(*exported).fine().out == "memory://b/model\n"
    model = load_model("memory://b/model")
    assert model.embed("a text").shape == (1, 16)
    shutil.rmtree(cache_root() / "remote")
    again = bigs(*exported)
    assert (again.code, "memory://b/model is in use" in again.err) == (2, True)


def test_a_result_that_cannot_be_uploaded_stays(pretrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(place: Remote, source: Path, name: str) -> None:
        raise BigsError("There is no network.")

    monkeypatch.setattr(Remote, "put", fail)
    done = bigs("predict", "a [MASK]", "--model", pretrained, "--output", "memory://b/words.jsonl")
    assert (done.code, "could not be uploaded. There is no network. It is in " in done.err) == (1, True)
    kept = Path(done.err.rpartition("It is in ")[2].strip().removesuffix("."))
    assert json.loads(kept.read_text())
    shutil.rmtree(kept.parent)


def test_nothing_at_a_url(shards: Path, pretrained: Path, tmp_path: Path) -> None:
    for arguments in (
        pretrain(shards, tmp_path / "run", "--data", "memory://b/none"),
        pretrain(shards, tmp_path / "run", "--from", "memory://b/none"),
        ("predict", "x", "--model", "memory://b/none"),
        ("predict", "--model", pretrained, "--input", "memory://b/none.txt"),
        ("eval", "mlm", "--model", pretrained, "--data", "memory://b/none"),
    ):
        done = bigs(*arguments)
        assert (done.code, "There is nothing at memory://b/none" in done.err) == (2, True), done.err
    assert not (tmp_path / "run").exists()
    put(shards, "memory://b/shards")
    done = bigs("predict", "x", "--model", "memory://b/shards")
    assert (done.code, "memory://b/shards contains neither a run" in done.err) == (2, True)
