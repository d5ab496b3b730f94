from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

import bigs_cli
from bigs_cli.checkpoints.folder import read_model, write_flax, write_torch
from bigs_cli.checkpoints.resolve import fetch_model
from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.data.tokenizer import load_tokenizer
from bigs_cli.models.published import to_torch
from tests.checkpoints.test_weights import write_sharded
from tests.checkpoints.tiny import config, parameters, same
from tests.hub_server import COMMIT, Fault, Hub, serving
from tests.tiny import bigs

OF = config(head="sequence-classification")
FLAT = parameters(OF)


def use_hub(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the hub at `endpoint`; huggingface_hub reads HF_ENDPOINT only once."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with models in all formats, only in Torch format, in shards, gated, and without weights."""
    folders = {name: tmp_path / name for name in ("all", "torch", "gated", "empty")}
    for name, folder in folders.items():
        write_flax(folder, OF, FLAT)
        write_torch(folder, OF, FLAT)
        (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
        (folder / "training_args.bin").write_bytes(b"not to be fetched")
        if name in ("torch", "empty"):
            (folder / "flax_model.msgpack").unlink()
            (folder / "model.safetensors").unlink()
    (folders["empty"] / "pytorch_model.bin").unlink()
    write_sharded(tmp_path / "shards", OF, to_torch(FLAT, OF), "model.safetensors")
    (tmp_path / "shards" / "more.safetensors").write_bytes(b"not to be fetched")
    folders["shards"] = tmp_path / "shards"
    stand_in = Hub({f"someone/{name}": folder for name, folder in folders.items()}, frozenset({"someone/gated"}))
    with serving(stand_in):
        use_hub(stand_in.endpoint, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield stand_in


def test_only_config_tokenizer_and_one_weights_file_are_fetched(hub: Hub) -> None:
    folder = fetch_model("someone/all")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "flax_model.msgpack",
        "vocab.txt",
    ]
    assert sorted(hub.downloads()) == ["config.json", "flax_model.msgpack", "vocab.txt"]
    model = read_model(folder)
    assert same(model.flat, FLAT)
    assert model.tokenizer_path == folder / "vocab.txt"


def test_a_model_only_in_torch_format_is_fetched(hub: Hub) -> None:
    assert same(read_model(fetch_model("someone/torch", revision="main")).flat, FLAT)
    assert sorted(hub.downloads()) == ["config.json", "pytorch_model.bin", "vocab.txt"]


def test_a_second_fetch_uses_the_cache(hub: Hub) -> None:
    first = fetch_model("someone/all")
    hub.requests.clear()
    assert fetch_model("someone/all", revision=COMMIT) == first
    assert hub.downloads() == []


@pytest.mark.parametrize("name", ["all", "torch", "shards"])
def test_without_a_network_the_cached_copy_is_used(name: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    online = fetch_model(f"someone/{name}")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch_model(f"someone/{name}") == online
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    use_hub("http://127.0.0.1:9", monkeypatch)
    assert fetch_model(f"someone/{name}") == online
    assert hub.requests == []


def test_a_model_that_is_not_cached_is_reported_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BigsError, match="HF_HUB_OFFLINE is set"):
        fetch_model("someone/all")
    assert hub.requests == []


def test_an_unreachable_hub_is_reported(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(BigsError, match=r"could not be downloaded from http://127\.0\.0\.1:9") as error:
        fetch_model("someone/all")
    assert error.value.exit_code == 1
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("repo", "revision", "message"),
    [
        ("someone/none", None, "the hub has no model of that name"),
        ("someone/all", "v9", "has no revision 'v9'"),
        ("someone/gated", None, "is gated"),
        ("someone/empty", None, "has no weights"),
        ("not a/name/at all", None, "neither an existing file or folder nor a hub id"),
    ],
)
def test_unavailable_models_are_reported(repo: str, revision: str | None, message: str, hub: Hub) -> None:
    with pytest.raises(RequestError, match=message):
        fetch_model(repo, revision)


SHARDS = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]


def test_an_index_and_its_shards_are_fetched_once(hub: Hub) -> None:
    folder = fetch_model("someone/shards")
    assert sorted(hub.downloads()) == ["config.json", *SHARDS, "model.safetensors.index.json"]
    assert same(read_model(folder).flat, FLAT)
    hub.requests.clear()
    assert fetch_model("someone/shards") == folder
    assert hub.downloads() == []


def test_missing_shards_in_the_cache_are_fetched(hub: Hub) -> None:
    folder = fetch_model("someone/shards")
    (folder / SHARDS[1]).resolve().unlink()
    (folder / SHARDS[1]).unlink()
    hub.requests.clear()
    assert same(read_model(fetch_model("someone/shards")).flat, FLAT)
    assert hub.downloads() == [SHARDS[1]]


def test_missing_and_outside_shards_are_rejected(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "shards" / SHARDS[1]).unlink()
    with pytest.raises(RequestError, match=f"lacks shards listed in model.safetensors.index.json: {SHARDS[1]}"):
        fetch_model("someone/shards")
    shutil.copytree(tmp_path / "shards", tmp_path / "evil")
    index = tmp_path / "evil" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "../../../secret"}}))
    hub.repositories["someone/evil"] = tmp_path / "evil"
    hub.requests.clear()
    with pytest.raises(RequestError, match="shards must be in the same folder"):
        fetch_model("someone/evil")
    assert not [line for line in hub.requests if "secret" in line]


def test_from_format_selects_the_weights_file(hub: Hub, tmp_path: Path) -> None:
    for form, file in (("torch", "pytorch_model.bin"), ("safetensors", "model.safetensors")):
        hub.requests.clear()
        options = ("--model", "someone/all", "--from-format", form)
        bigs("export", *options, "--output", tmp_path / "out" / form).fine()
        assert [name for name in hub.downloads() if "model" in name] == [file]
        assert same(read_model(tmp_path / "out" / form).flat, FLAT)
    with pytest.raises(
        RequestError, match=r"no weights in the format flax\. flax_model\.msgpack is required, as a single"
    ):
        fetch_model("someone/shards", form="flax")


def test_from_pretrained_uses_the_cache_when_repeated_and_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second call downloads nothing, an offline call sends no requests, and a revision is another model."""
    load = bigs_cli.BiGSForSequenceClassification.from_pretrained
    other = config(head="sequence-classification", num_labels=3)
    hub.repositories["someone/all@v1"] = hub.repositories["someone/all"].parent / "v1"
    write_flax(hub.repositories["someone/all@v1"], other, parameters(other))
    assert load("someone/all").config == OF
    assert load("someone/all", revision="v1").config == other
    hub.requests.clear()
    assert load("someone/all", revision="v1").config == other
    assert hub.downloads() == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert load("someone/all").config == OF
    assert load("someone/all", revision="v1").config == other
    with pytest.raises(BigsError, match="HF_HUB_OFFLINE is set"):
        load("someone/shards")
    assert hub.requests == []


@pytest.mark.parametrize("status", [401, 403])
def test_missing_access_is_reported(status: int, hub: Hub) -> None:
    hub.faults.append(Fault("/flax_model.msgpack", times=9, status=status))
    with pytest.raises(RequestError, match=r"hf auth login") as error:
        fetch_model("someone/all")
    assert len(str(error.value).splitlines()) == 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the client's timeouts and the pauses between its attempts."""
    wait = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: wait(min(seconds, 0.01)))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 2.0)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 2.0)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET /someone/shards/resolve", after=700),
        Fault("GET /someone/shards/resolve", after=700, stall=30),
        Fault("GET /someone/shards/resolve", times=3),
    ],
    ids=["truncated", "stalling", "cut"],
)
@pytest.mark.usefixtures("impatient")
def test_an_interrupted_download_is_continued(fault: Fault, hub: Hub) -> None:
    hub.faults.append(fault)
    assert same(read_model(fetch_model("someone/shards")).flat, FLAT)
    assert fault.times == 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault("-00002-of", times=99, after=0),
        Fault("-00002-of", times=99, after=0, stall=30),
        Fault("GET /api/models/someone/shards", times=99, stall=30),
        Fault("/tree/", times=99, stall=30),
    ],
    ids=["always truncated", "always stalling", "a silent hub", "a silent listing"],
)
@pytest.mark.usefixtures("impatient")
def test_a_download_that_always_fails_is_reported(fault: Fault, hub: Hub) -> None:
    hub.faults.append(fault)
    with pytest.raises(
        BigsError, match=r"someone/shards could not be downloaded from http://127.*Check the network"
    ) as error:
        fetch_model("someone/shards")
    assert (error.value.exit_code, len(str(error.value).splitlines())) == (1, 1)
    hub.faults.clear()
    assert same(read_model(fetch_model("someone/shards")).flat, FLAT)


PAGE = b"<!DOCTYPE html><title>Please log in</title>"
FILE = "GET /someone/all/resolve/"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/api/models/someone/all", status=500),
        Fault(FILE, times=2, status=503),
        Fault("/flax_model.msgpack", times=3, status=429),
        Fault(f"{FILE}{COMMIT}/flax_model", lie=PAGE),
    ],
    ids=["500", "503 twice", "busy", "a page for weights"],
)
@pytest.mark.usefixtures("impatient")
def test_temporary_errors_of_the_hub_are_retried(fault: Fault, hub: Hub) -> None:
    hub.faults.append(fault)
    assert same(read_model(fetch_model("someone/all")).flat, FLAT)
    assert fault.times == 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("/api/", times=99, lie=PAGE), r"The server at http://127.* is not a hub .* login page"),
        (Fault("/api/", times=99, lie=b"[]"), "is not a hub"),
        (Fault("/api/", times=99, lie=b"{}"), "is not a hub"),
        (Fault("/", times=99, lie=PAGE), "is not a hub"),
        (Fault("/resolve/", times=99, lie=PAGE), "could not be downloaded .* Hugging Face Hub endpoint"),
        (Fault("GET /someone/all/resolve", times=99, lie=PAGE), "could not be downloaded .*should be of size"),
        (Fault("/", times=99, status=500), r"could not be downloaded .*HTTP 500"),
    ],
    ids=["a page for JSON", "a list", "nothing", "pages", "pages for files", "a page as content", "500"],
)
@pytest.mark.usefixtures("impatient")
def test_permanent_wrong_answers_of_the_hub_are_reported(fault: Fault, message: str, hub: Hub) -> None:
    hub.faults.append(fault)
    with pytest.raises(BigsError, match=message) as error:
        fetch_model("someone/all")
    assert (error.value.exit_code, len(str(error.value).splitlines())) == (1, 1)
    hub.faults.clear()
    assert same(read_model(fetch_model("someone/all")).flat, FLAT)
    hub.faults.append(fault)
    assert same(read_model(fetch_model("someone/all")).flat, FLAT)  # from the cache


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("/vocab.txt", status=503), None),
        (Fault("/resolve/", times=99, status=500), "HTTP 500"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_a_tokenizer_from_the_hub(fault: Fault, message: str | None, hub: Hub) -> None:
    hub.faults.append(fault)
    if message:
        with pytest.raises(BigsError, match=rf"The tokenizer someone/all: .*{message}.*network"):
            load_tokenizer("someone/all")
        hub.faults.clear()
    assert load_tokenizer("someone/all").get_vocab_size() == 6
