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
from bigs_cli.checkpoints.remote_run import Mirror, working_folder
from bigs_cli.core.errors import BigsError
from bigs_cli.core.files import locked
from bigs_cli.core.remote import Remote, remote
from tests.tiny import bigs, finetune, pretrain
from tests.training.test_resume import same, training_log

URL = "memory://bucket/run"
NAME = URL.removeprefix("memory:/")
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


@pytest.mark.parametrize("name", ["lock", "upload", "download", "removed", "copy", "versions.json"])
def test_a_run_may_have_any_name(shards: Path, name: str) -> None:
    """Also one that this project uses for files of its own."""
    url = f"memory://bucket/{name}"
    bigs(*pretrain(shards, url, steps=4, evaluate__every_steps=2, checkpoint__every_steps=2)).fine()
    bigs("eval", "mlm", "--model", url).fine()
    bigs("pretrain", "--resume", "--run", url).fine()
    assert f"/bucket/{name}/results.json" in store()


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
    started = next(number for number, state in enumerate(states) if f"{NAME}/recipe.yaml" in state)
    assert started > 3
    assert len(states) - started > 20
    assert any("checkpoints/15/" in " ".join(state) for state in states)
    for number in [*range(0, started, 3), *np.linspace(started, len(states) - 1, 6).astype(int)]:
        store().clear()
        fsspec.filesystem("memory").pipe(states[number])
        shutil.rmtree(tmp_path / "cache")
        resume = number >= started
        assert bigs("pretrain", "--resume", "--run", URL).code == (0 if resume else 2)
        if not resume:
            bigs(*pretrain(shards, URL, **STEPS)).fine()
        found = download(tmp_path / f"found-{number}")
        assert same(steady / "checkpoints", found / "checkpoints")
        assert training_log(steady) == training_log(found)
        assert (found / "results.json").is_file()


def test_an_interrupted_download_loses_nothing(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bigs(*pretrain(shards, URL, **STEPS)).fine()
    complete, get = dict(store()), Remote.get
    for after in (1, 6, 12):
        downloaded = 0

        def interrupted(place: Remote, name: str, target: Path, after: int = after) -> None:
            nonlocal downloaded
            downloaded += 1
            if downloaded > after:
                raise KeyboardInterrupt
            get(place, name, target)

        with monkeypatch.context() as patch:
            patch.setattr(Remote, "get", interrupted)
            assert bigs("pretrain", "--resume", "--run", URL).code == 130
        assert store().keys() == complete.keys()
        bigs("pretrain", "--resume", "--run", URL).fine()
        assert store().keys() >= {name for name in complete if "/checkpoints/" not in name}


def test_two_machines_that_reach_the_same_step(shards: Path, tmp_path: Path) -> None:
    """The first one crashed before it uploaded its last checkpoints; the second one has written its own since."""
    bigs(*pretrain(shards, URL, **STEPS)).fine()
    crashed = download(tmp_path / "crashed")
    (crashed / "results.json").unlink()
    for file in [file for file in store() if "checkpoints/20/" in file or file.endswith("results.json")]:
        store().pop(file)
    bigs("pretrain", "--resume", "--run", URL).fine()
    working_folder(URL).parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(crashed, working_folder(URL))
    bigs("pretrain", "--resume", "--run", URL).fine()
    bigs("eval", "mlm", "--model", URL).fine()
    assert not working_folder(URL).exists()


def test_a_checkpoint_is_always_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if uploads take longer than checkpoints are kept."""
    folder, put = tmp_path / "copy" / "run", Remote.put
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "recipe.yaml").write_text("kind: pretrain")

    def write(step: int) -> None:
        made = folder / "checkpoints" / str(step)
        made.mkdir()
        for name in ("a", "b", "seal.json"):
            (made / name).write_text(f"{step}")

    def slow(place: Remote, source: Path, name: str) -> None:
        put(place, source, name)
        if name.endswith("/a"):
            step = int(name.split("/")[-2])
            write(step + 10)
            shutil.rmtree(folder / "checkpoints" / str(step))

    write(0)
    mirror = Mirror(folder, remote(URL), [], print)
    monkeypatch.setattr(Remote, "put", slow)
    for step in (0, 10, 20):
        mirror.upload()
        there = {name.removeprefix(f"{NAME}/") for name in store()}
        assert there == {"recipe.yaml", *(f"checkpoints/{step}/{name}" for name in ("a", "b", "seal.json"))}


def test_checkpoints_that_wait_to_be_pushed_stay_in_the_working_copy(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "copy" / "run"
    for place in (folder, folder / ".pushes" / "10"):
        (place / "checkpoints" / "10").mkdir(parents=True)
        (place / "checkpoints" / "10" / "seal.json").write_text("{}")
        (place / "recipe.yaml").write_text("kind: pretrain")
    with Mirror(folder, remote(URL), [], print):
        pass
    assert set(store()) == {f"{NAME}/recipe.yaml", f"{NAME}/checkpoints/10/seal.json"}
    names = [name.removeprefix(f"{NAME}/") for name in store()]
    assert remote_run._is_later(folder, remote(URL), [*names, ".pushes/20/checkpoints/20/seal.json"])
    shutil.rmtree(folder / ".pushes")
    with Mirror(folder, remote(URL), names, print):
        pass
    assert not folder.exists()


def test_files_of_others_stay(shards: Path, tmp_path: Path) -> None:
    bigs(*pretrain(shards, URL, **STEPS)).fine()
    theirs = [
        f"{NAME}/{name}"
        for name in ("notes.md", "export/model.bin", ".hidden", "best/notes.md", "backup/checkpoints/3/x")
    ]
    for name in theirs:
        fsspec.filesystem("memory").pipe(name, b"text")
    shutil.copytree(download(tmp_path / "copy"), working_folder(URL))
    (working_folder(URL) / "notes.md").unlink()
    partial = f"{NAME}/checkpoints/5/params"
    fsspec.filesystem("memory").pipe(partial, b"of an interrupted upload")
    bigs("pretrain", "--resume", "--run", URL).fine()
    assert store().keys() >= set(theirs)
    assert partial not in store()


def test_one_process_at_a_time(shards: Path, tmp_path: Path) -> None:
    working_folder(URL).parent.mkdir(parents=True)
    with locked(working_folder(URL).parents[1] / "lock"):
        done = bigs(*pretrain(shards, URL))
    assert (done.code, f"Another process is training {URL}" in done.err) == (2, True)


def test_dry_runs_change_nothing(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "note").write_text("mine")
    bigs(*pretrain(shards, URL, "--dry-run")).fine()
    assert not store()
    bigs(*pretrain(shards, URL, **STEPS)).fine()
    before = dict(store())
    bigs("pretrain", "--resume", "--run", URL, "--dry-run").fine()
    refused = bigs("pretrain", "--resume", "--run", URL, "--recipe", "small")
    assert (refused.code, f"start a new run: --run {URL}-2" in refused.err) == (2, True), refused.err
    assert store().keys() == before.keys()
    sweep = ("--sweep", "optimizer.learning_rate=1e-3,2e-3", "--dry-run")
    shown = bigs(*pretrain(shards, "memory://bucket/sweep", *sweep)).fine()
    assert "memory://bucket/sweep/learning_rate=1e-3" in shown.err


def test_the_glue_suite_at_a_url(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    for name in ("MNLI", "MRPC"):
        shutil.copytree(glue / name, tasks / name)
    bigs(*finetune("glue", pretrained, tasks, URL, "--set", "epochs=1")).fine()
    recipe = store()[f"{NAME}/mrpc/recipe.yaml"].getvalue().decode()
    assert f"from: {URL}/mnli" in recipe
    shown = bigs("eval", "glue", "--model", URL).fine()
    assert "MRPC" in shown.out
    for file in [file for file in store() if file.startswith(f"{NAME}/mrpc/")]:
        store().pop(file)
    again = bigs("finetune", "--resume", "--run", URL).fine()
    assert f"{URL}/mnli is finished." in again.err


def test_fine_tuning_with_several_seeds(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    refused = bigs(*finetune("cola", pretrained, tmp_path / "nothing", URL, "--seeds", 2))
    assert (refused.code, f"There is no folder {tmp_path}/nothing" in refused.err) == (2, True)
    assert not store()
    bigs(*finetune("cola", pretrained, glue, URL, "--seeds", 2, "--set", "epochs=1")).fine()
    store().pop(f"{NAME}/seeds.json")
    for file in [file for file in store() if "seed-43/" in file]:
        store().pop(file)
    shutil.rmtree(tmp_path / "cache")
    done = bigs("finetune", "--resume", "--run", URL).fine()
    assert "seed-42 is finished" in done.err
    assert f"bigs eval --model {URL}/seed-4" in done.err
    assert {f"{NAME}/seeds.json", f"{NAME}/seed-43/results.json"} <= store().keys()


def test_an_upload_that_fails_is_repeated_by_resuming(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise BigsError("There is no network.")

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "put", fail)
        done = bigs(*pretrain(shards, URL, steps=200))
    assert done.code == 1
    assert done.err.count("the run cannot be uploaded at the moment: There is no network.") == 1
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
    complete = dict(store())
    for file in [file for file in store() if file.endswith("results.json") or "checkpoints/20/" in file]:
        store().pop(file)
    download(working_folder(URL))
    here = bigs("pretrain", "--resume", "--run", URL).fine()
    assert f"Resuming {URL} after step 15" in here.err
    assert "Downloading" not in here.err
    store().clear()
    store().update(complete)
    shutil.rmtree(download(working_folder(URL)) / "checkpoints" / "20")
    there = bigs("pretrain", "--resume", "--run", URL).fine()
    assert "after step 20" in there.err
    assert f"{NAME}/results.json" in store()


def test_what_cannot_be_at_a_url_is_refused(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("https://example.org/run", "file:///tmp/run", "hf://a/b", "zip://run::s3://bucket/run.zip"):
        done = bigs(*pretrain(shards, url))
        assert (done.code, f"{url} is a URL to which nothing can be written" in done.err) == (2, True)
    for several in (("--seeds", 2), ("--sweep", "seed=1,2")):
        done = bigs(*pretrain(shards, URL, *several, "--coordinator", "here:1", "--process", 0, "--processes", 2))
        assert (done.code, "several processes train only a single run at a URL" in done.err) == (2, True)
    assert not store()
    monkeypatch.setitem(sys.modules, "s3fs", None)
    done = bigs(*pretrain(shards, "s3://bucket/run"))
    assert (done.code, "requires a package that is not installed (pip install 'bigs[s3]')" in done.err) == (2, True)
