"""A run at a URL: the files of the run are there, and it is resumed from them on any machine.

`memory://` keeps files in this process; tests/long/s3.py does the same with a server.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from bigs_cli.checkpoints import remote_run
from bigs_cli.checkpoints.remote_run import working_folder
from bigs_cli.core.errors import BigsError
from bigs_cli.core.remote import Remote
from tests.tiny import bigs, finetune, pretrain
from tests.training.test_resume import same, training_log

URL = "memory://bucket/run"
STEPS = {"steps": 20, "evaluate__every_steps": 10, "checkpoint__every_steps": 5}


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty remote file system and an empty cache; uploads follow each other without a pause."""
    monkeypatch.setenv("BIGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_run, "SECONDS", 0.02)
    system: Any = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield
    system.store.clear()


def store() -> dict[str, Any]:
    return fsspec.filesystem("memory").store


def download(target: Path) -> Path:
    fsspec.filesystem("memory").get(URL, str(target), recursive=True)
    return target


def test_a_run_is_uploaded(shards: Path, tmp_path: Path) -> None:
    steady = tmp_path / "steady"
    bigs(*pretrain(shards, steady, **STEPS)).fine()
    done = bigs(*pretrain(shards, URL, **STEPS)).fine()
    assert done.out.strip() == URL
    assert f"bigs eval mlm --model {URL}" in done.err
    found = download(tmp_path / "found")
    assert same(steady / "checkpoints", found / "checkpoints")
    assert training_log(steady) == training_log(found)
    assert {path.name for path in steady.iterdir() if path.name != ".lock"} == {path.name for path in found.iterdir()}
    again = bigs(*pretrain(shards, URL))
    assert again.code == 2
    assert f"{URL} is in use. Continue the run in it with `bigs pretrain --resume --run {URL}`" in again.err


def test_a_run_is_resumed_after_any_step_of_its_upload(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if this machine were lost between two changes of the remote files."""
    states: list[dict[str, bytes]] = []

    def recorded(change: Callable[..., None]) -> Callable[..., None]:
        def call(place: Remote, *arguments: Any) -> None:
            change(place, *arguments)
            states.append({name: file.getvalue() for name, file in store().items()})

        return call

    with monkeypatch.context() as patch:
        for name in ("put", "remove"):
            patch.setattr(Remote, name, recorded(getattr(Remote, name)))
        bigs(*pretrain(shards, URL, **STEPS)).fine()
    steady = download(tmp_path / "steady")
    recipe = URL.removeprefix("memory:/") + "/recipe.yaml"
    started = [state for state in states if recipe in state]
    assert len(started) > 20
    assert any("checkpoints/15/" in " ".join(state) for state in started)
    for number in np.linspace(0, len(started) - 1, 6).astype(int):
        store().clear()
        fsspec.filesystem("memory").pipe(started[number])
        shutil.rmtree(tmp_path / "cache")
        bigs("pretrain", "--resume", "--run", URL).fine()
        found = download(tmp_path / f"found-{number}")
        assert same(steady / "checkpoints", found / "checkpoints")
        assert training_log(steady) == training_log(found)
        assert (found / "results.json").is_file()
    store().clear()
    fsspec.filesystem("memory").pipe(states[0])
    refused = bigs("pretrain", "--resume", "--run", URL)
    assert (refused.code, f"There is no run to resume at {URL}." in refused.err) == (2, True)


def test_fine_tuning_with_several_seeds(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    bigs(*finetune("cola", pretrained, glue, URL, "--seeds", 2, "--set", "epochs=1")).fine()
    name = URL.removeprefix("memory:/")
    store().pop(f"{name}/seeds.json")
    for file in [file for file in store() if "seed-43/" in file]:
        store().pop(file)
    shutil.rmtree(tmp_path / "cache")
    done = bigs("finetune", "--resume", "--run", URL).fine()
    assert "seed-42 is finished" in done.err
    assert f"bigs eval --model {URL}/seed-4" in done.err
    assert {f"{name}/seeds.json", f"{name}/seed-43/results.json"} <= store().keys()


def test_an_upload_that_fails_is_repeated_by_resuming(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise BigsError("There is no network.")

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "put", fail)
        done = bigs(*pretrain(shards, URL, steps=200))
    assert done.code == 1
    assert done.err.count("not uploaded for now: There is no network.") == 1
    assert f"could not be uploaded. There is no network. Its files are in {working_folder(URL)}" in done.err
    assert not store()
    refused = bigs(*pretrain(shards, URL))
    assert (refused.code, "was interrupted before it was uploaded" in refused.err) == (2, True)
    bigs("pretrain", "--resume", "--run", URL).fine()
    assert any(name.endswith("results.json") for name in store())
    assert not working_folder(URL).exists()


def test_the_later_state_is_used(shards: Path, tmp_path: Path) -> None:
    """The working copy after a crash, unless another machine has continued the run."""
    bigs(*pretrain(shards, URL, **STEPS)).fine()
    name = URL.removeprefix("memory:/")
    complete = dict(store())
    for file in [file for file in store() if file.endswith("results.json") or "checkpoints/20/" in file]:
        store().pop(file)
    download(working_folder(URL))
    here = bigs("pretrain", "--resume", "--run", URL).fine()
    assert "after step 15" in here.err
    store().clear()
    store().update(complete)
    shutil.rmtree(download(working_folder(URL)) / "checkpoints" / "20")
    there = bigs("pretrain", "--resume", "--run", URL).fine()
    assert "after step 20" in there.err
    assert f"{name}/results.json" in store()


def test_what_cannot_be_at_a_url_is_refused(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("https://example.org/run", "file:///tmp/run", "hf://a/b", "zip://run::s3://bucket/run.zip"):
        done = bigs(*pretrain(shards, url))
        assert (done.code, f"{url} is a URL to which nothing can be written" in done.err) == (2, True)
    together = ("--coordinator", "127.0.0.1:1", "--process", 0, "--processes", 2)
    done = bigs(*pretrain(shards, URL, *together))
    assert (done.code, "a file system that all of them share" in done.err) == (2, True)
    bigs(*pretrain(shards, URL, "--dry-run")).fine()
    assert not store()
    monkeypatch.setitem(sys.modules, "s3fs", None)
    done = bigs(*pretrain(shards, "s3://bucket/run"))
    assert (done.code, "requires a package that is not installed (pip install 'bigs[s3]')" in done.err) == (2, True)
