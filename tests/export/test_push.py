"""Pushing an export, through the command line and the real client, to a fake hub on the loopback interface."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

import bigs_cli
from bigs_cli.checkpoints.folder import read_model, write_flax
from bigs_cli.core.errors import RequestError
from bigs_cli.export import pushes as pushes_module
from bigs_cli.reporting.metrics_log import curve, read_metrics
from tests.checkpoints.test_hub import use_hub
from tests.checkpoints.tiny import config, parameters, same
from tests.hub_server import Fault, Hub, serving
from tests.hub_writing import Writing
from tests.tiny import Done, bigs, most_optimizations, pretrain, snapshot

OF = config(head="sequence-classification")
FLAT = parameters(OF)
TOKEN = "hf_of_ada"

# The client uploads large files in a way that its HTTP library has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def optimized() -> Iterator[None]:
    """Replace the fixture of this folder: no test here compares numbers with those of another program."""
    with most_optimizations(disabled=True):
        yield


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the logged-in user ada, a member of the organization lab; and a local model to push."""
    write_flax(tmp_path / "model", OF, FLAT)
    theirs = tmp_path / "theirs"
    write_flax(theirs, OF, FLAT)
    writing = Writing(tmp_path / "written", {TOKEN: "ada", "hf_of_bob": "bob"}, {"ada": ["lab"]})
    with serving(Hub({"bob/model": theirs}, writing=writing)) as stand_in:
        use_hub(stand_in.endpoint, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        # Without it, the client uploads large files with another protocol to servers that the hub names.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        (tmp_path / "token").write_text(TOKEN)
        yield stand_in


def export(place: Path, *more: object) -> Done:
    return bigs("export", "--model", place / "model", "--output", place / "out", *more)


def written(hub: Hub) -> Writing:
    assert hub.writing is not None
    return hub.writing


def changes(hub: Hub) -> list[str]:
    """Return the requests that changed the hub."""
    return [line for line in hub.requests if not line.startswith(("GET", "HEAD"))]


@pytest.mark.parametrize("repo", ["ada/mine", "lab/ours"])
def test_a_new_repository_is_private_and_contains_the_model(hub: Hub, repo: str, tmp_path: Path) -> None:
    done = export(tmp_path, "--format", "torch", "--push", repo).fine()
    assert done.out == f"{tmp_path / 'out'}\n"
    assert f"Pushed to {hub.endpoint}/{repo}/commit/" in done.err
    assert written(hub).private == {repo}
    (commit,) = written(hub).commits
    assert commit["summary"] == "model in the format torch, exported by bigs"
    small, large = ("README.md", "config.json"), ("model.safetensors", "pytorch_model.bin")
    assert commit["files"] == dict.fromkeys(small, "regular") | dict.fromkeys(large, "lfs")
    model = bigs_cli.load_model(repo)
    ours = bigs_cli.load_model(tmp_path / "model")
    ids = np.array([[2, 7, 3, 0]])
    assert np.array_equal(model(ids).logits, ours(ids).logits)


def test_small_files_are_uploaded_in_the_commit(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client uses this mode if its newer protocol for large files is available."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    written(hub).large = 1 << 30
    export(tmp_path, "--push", "ada/mine").fine()
    assert [set(commit["files"].values()) for commit in written(hub).commits] == [{"regular"}]
    assert same(read_model(written(hub).folder / "ada/mine").flat, FLAT)


def test_public_creates_a_public_repository(hub: Hub, tmp_path: Path) -> None:
    export(tmp_path, "--push", "ada/mine", "--public").fine()
    assert written(hub).private == set()
    assert not any("/settings" in line for line in hub.requests), "it was public from the start"


def test_a_private_repository_becomes_public_after_the_upload(hub: Hub, tmp_path: Path) -> None:
    export(tmp_path, "--push", "ada/mine").fine()
    bigs("export", "--model", tmp_path / "model", "--output", tmp_path / "b", "--push", "ada/mine", "--public").fine()
    assert written(hub).private == set()
    steps = [line.rsplit("/", 2)[1 if "commit" in line else 2] for line in changes(hub)]
    assert steps.index("settings") > max(at for at, step in enumerate(steps) if step == "commit")


def test_a_branch_and_its_revision(hub: Hub, tmp_path: Path) -> None:
    export(tmp_path, "--push", "ada/mine", "--revision", "try/2").fine()
    assert [commit["revision"] for commit in written(hub).commits] == ["try/2"]
    model = bigs_cli.BiGSForSequenceClassification.from_pretrained("ada/mine", revision="try/2")
    assert model.config == OF
    with pytest.raises(RequestError, match="has no weights"):
        bigs_cli.load_model("ada/mine")
    hub.requests.clear()
    again = ("--push", "ada/mine", "--revision", "try/2")
    bigs("export", "--model", tmp_path / "model", "--output", tmp_path / "again", *again).fine()
    assert not [line for line in hub.requests if line.startswith("PUT")], "the same bytes are not sent twice"


def test_older_weights_in_the_repository_are_reported(hub: Hub, tmp_path: Path) -> None:
    assert "also holds" not in export(tmp_path, "--push", "ada/mine").fine().err
    again = ("--format", "torch", "--push", "ada/mine")
    done = bigs("export", "--model", tmp_path / "model", "--output", tmp_path / "again", *again).fine()
    assert "ada/mine also holds flax_model.msgpack from before" in done.err
    assert "hf repos delete-files ada/mine flax_model.msgpack\n" in done.err
    assert (written(hub).folder / "ada/mine/flax_model.msgpack").exists()


def check_rejected(done: Done, place: Path, hub: Hub, code: int, *messages: str) -> None:
    """Check that the command failed before anything was exported or changed on the hub."""
    assert (done.code, done.out) == (code, ""), done.err
    assert [part for part in messages if part not in done.err] == [], done.err
    assert len(done.err.splitlines()) == 1
    assert not (place / "out").exists()
    assert changes(hub) == []


def test_a_missing_login_is_reported(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "token").unlink()
    check_rejected(
        export(tmp_path, "--push", "ada/mine"), tmp_path, hub, 2, "not logged in", "hf auth login", "HF_TOKEN"
    )


def test_an_invalid_token_is_reported(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    check_rejected(
        export(tmp_path, "--push", "ada/mine"), tmp_path, hub, 2, "does not accept your token", "hf auth login --force"
    )


def test_pushing_offline_is_rejected(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    check_rejected(
        export(tmp_path, "--push", "ada/mine"), tmp_path, hub, 2, "HF_HUB_OFFLINE is set", "leave out --push"
    )
    assert hub.requests == []


def test_an_unreachable_hub_is_reported(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub("http://127.0.0.1:9", monkeypatch)
    check_rejected(
        export(tmp_path, "--push", "ada/mine"), tmp_path, hub, 1, "could not be pushed to http://127.0.0.1:9"
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--push", "mine"), "Use --push OWNER/NAME"),
        (("--push", "a/b/c"), "Use --push OWNER/NAME"),
        (("--push", "ada/-"), "Use --push OWNER/NAME"),
        (("--public",), "--public applies only to uploads: add --push OWNER/NAME"),
        (("--revision", "v1"), "--revision applies only to uploads: add --push OWNER/NAME"),
    ],
)
def test_invalid_destinations_are_rejected(more: tuple[str, ...], message: str, hub: Hub, tmp_path: Path) -> None:
    check_rejected(export(tmp_path, *more), tmp_path, hub, 2, message)


def test_an_existing_public_repository_needs_public(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["ada/public"] = tmp_path / "theirs"
    before = snapshot(tmp_path / "theirs")
    check_rejected(export(tmp_path, "--push", "ada/public"), tmp_path, hub, 2, "ada/public is public", "--public")
    assert snapshot(tmp_path / "theirs") == before


@pytest.mark.parametrize("repo", ["bob/model", "bob/new"])
def test_missing_write_permission_is_reported(repo: str, hub: Hub, tmp_path: Path) -> None:
    """Only the upload reveals this; the export is kept, and the message says how to push it."""
    before = snapshot(tmp_path / "theirs")
    done = export(tmp_path, "--push", repo, "--public")
    assert (done.code, done.out) == (2, "")
    assert f"You have no write access to {repo} on the hub (HTTP 403)" in done.err
    assert f"hf upload {repo} {tmp_path / 'out'} ." in done.err
    assert same(read_model(tmp_path / "out").flat, FLAT)
    assert (snapshot(tmp_path / "theirs"), written(hub).commits) == (before, [])


@pytest.mark.parametrize(
    ("where", "status", "code", "message"),
    [
        ("/preupload/", 403, 2, "You have no write access to ada/mine"),
        ("/lfs/objects/batch", 403, 2, "You have no write access to ada/mine"),
        ("PUT /store/", 400, 1, "could not be pushed"),
        ("/commit/", 400, 1, "The hub rejected the upload to ada/mine"),
        ("/commit/", 507, 1, "HTTP 507"),
        ("/api/repos/create", 401, 2, "does not accept your token"),
    ],
)
def test_errors_during_the_upload_are_reported(
    where: str, status: int, code: int, message: str, hub: Hub, tmp_path: Path
) -> None:
    hub.faults.append(Fault(where, times=9, status=status))
    done = export(tmp_path, "--push", "ada/mine")
    assert (done.code, done.out) == (code, "")
    last = done.err.splitlines()[-1]
    assert message in last, done.err
    assert f"The export is complete in {tmp_path / 'out'}" in last
    assert f"hf upload ada/mine {tmp_path / 'out'} . --private" in last
    assert written(hub).commits == []


def test_checkpoints_are_pushed_while_training(
    hub: Hub, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("HF_ENDPOINT", hub.endpoint),
        ("HF_TOKEN", TOKEN),
        ("HF_HUB_DISABLE_XET", "1"),
        ("HF_HOME", str(tmp_path / "home")),
    ):
        monkeypatch.setenv(name, value)
    run = tmp_path / "run"
    changes = {"steps": 12, "checkpoint__every_steps": 3, "checkpoint__keep": 9}
    push = ("--push", "ada/steps", "--push-every", 6)
    done = bigs(*pretrain(shards, run, *push, **changes)).fine()
    assert "Pushed step 6 to ada/steps." in done.err
    assert "Pushed the final model to ada/steps." in done.err
    pushed = [commit["revision"] for commit in written(hub).commits]
    assert sorted(pushed) == ["main", "step-12", "step-6"]
    (run / "results.json").unlink()
    bigs("pretrain", "--resume", "--run", run, *push).fine()
    assert [commit["revision"] for commit in written(hub).commits][3:] == ["main"]
    for model, same_as in ((f"{run}@6", "ada/steps@step-6"), (run, "ada/steps")):
        first, second = (bigs("predict", "a [MASK]", "--model", one).fine().out for one in (model, same_as))
        assert first == second
    # A run from a pushed checkpoint has its weights only: it begins at step 1, with a new optimizer and data order.
    for name, model in (("pushed", "ada/steps@step-6"), ("kept", f"{run}@6")):
        bigs(*pretrain(shards, tmp_path / name, "--from", model)).fine()
    pushed_curve, kept_curve = (
        curve(read_metrics(tmp_path / name / "metrics.jsonl"), "loss") for name in ("pushed", "kept")
    )
    assert pushed_curve == kept_curve
    assert pushed_curve[0][0] == 1
    refused = bigs(*pretrain(shards, tmp_path / "other", "--push", "ada/steps", "--push-every", 4, **changes))
    assert (refused.code, "checkpoints are written every 3 steps" in refused.err) == (2, True)
    assert bigs(*pretrain(shards, tmp_path / "other", "--push-every", 6)).code == 2
    missing = bigs("predict", "a [MASK]", "--model", f"{run}@7")
    assert (missing.code, "There is no checkpoint of step 7" in missing.err) == (2, True)


def test_checkpoints_wait_for_their_push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run deletes old checkpoints; pushes fail for a while."""
    run, tried = tmp_path / "run", []
    run.mkdir()
    (run / "recipe.yaml").write_text("kind: pretrain")
    fails = True

    def export(model: str, repo: str, branch: str | None) -> str | None:
        tried.append((branch, sorted(path.name for path in Path(model).glob("checkpoints/*/*"))))
        return "There is no network." if fails else None

    monkeypatch.setattr(pushes_module, "_export", export)
    monkeypatch.setattr(pushes_module, "_SECONDS", 0.01)
    messages: list[str] = []
    with pushes_module.pushes(run, "ada/steps", 10, lambda text: messages.append(str(text))):
        for step in (5, 10, 20, 30):
            made = run / "checkpoints" / str(step)
            made.mkdir(parents=True)
            (made / "params").write_text("values")
            (made / "seal.json").write_text("{}")
            while step % 10 == 0 and not (run / ".pushes" / str(step)).exists():
                time.sleep(0.01)
            shutil.rmtree(made)
        fails = False
    assert ("step-10", ["params", "seal.json"]) in tried
    assert messages[-3:] == [f"Pushed step {step} to ada/steps." for step in (10, 20, 30)]
    assert "Step 10 could not be pushed: There is no network." in messages
    assert not (run / ".pushes").exists()
    tried.clear()
    (run / "checkpoints" / "30").mkdir()
    (run / "checkpoints" / "30" / "seal.json").write_text("{}")
    with pushes_module.pushes(run, "ada/steps", 10, print):
        pass
    assert not tried
    with pushes_module.pushes(run, "ada/others", 20, print):
        (run / "checkpoints" / "40").mkdir()
        (run / "checkpoints" / "40" / "seal.json").write_text("{}")
    pushed = json.loads((run / "pushed.json").read_text())
    assert pushed == {"ada/steps": [10, 20, 30], "ada/others": [40]}
