from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from bigs_cli.checkpoint.folder import read_model, write_flax, write_torch
from bigs_cli.checkpoint.hub import fetch_model
from bigs_cli.core.errors import BigsError, RequestError
from tests.checkpoint.tiny import config, parameters, same
from tests.hub_server import COMMIT, Hub, serving

OF = config(head="sequence-classification")
FLAT = parameters(OF)


def look_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does, which huggingface_hub reads only once."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a model in all formats, one in Torch's only, a gated one and one without weights."""
    folders = {name: tmp_path / name for name in ("all", "torch", "gated", "empty")}
    for name, folder in folders.items():
        write_flax(folder, OF, FLAT)
        write_torch(folder, OF, FLAT)
        (folder / "vocab.txt").write_text("[PAD]\n")
        (folder / "training_args.bin").write_bytes(b"not to be fetched")
        if name in ("torch", "empty"):
            (folder / "flax_model.msgpack").unlink()
            (folder / "model.safetensors").unlink()
    (folders["empty"] / "pytorch_model.bin").unlink()
    stand_in = Hub({f"someone/{name}": folder for name, folder in folders.items()}, frozenset({"someone/gated"}))
    with serving(stand_in):
        look_at(stand_in.endpoint, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield stand_in


def test_the_config_the_tokenizer_and_one_weights_file_are_fetched(hub: Hub) -> None:
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


def test_a_model_in_torch_s_format_only(hub: Hub) -> None:
    assert same(read_model(fetch_model("someone/torch", revision="main")).flat, FLAT)
    assert sorted(hub.downloads()) == ["config.json", "pytorch_model.bin", "vocab.txt"]


def test_the_second_time_comes_from_the_cache(hub: Hub) -> None:
    first = fetch_model("someone/all")
    hub.requests.clear()
    assert fetch_model("someone/all", revision=COMMIT) == first
    assert hub.downloads() == []


@pytest.mark.parametrize("name", ["all", "torch"])
def test_without_a_network_the_cached_copy_is_used(name: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    online = fetch_model(f"someone/{name}")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch_model(f"someone/{name}") == online
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    look_at("http://127.0.0.1:9", monkeypatch)
    assert fetch_model(f"someone/{name}") == online
    assert hub.requests == []


def test_offline_and_not_cached(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BigsError, match="HF_HUB_OFFLINE is set"):
        fetch_model("someone/all")
    assert hub.requests == []


def test_a_hub_that_does_not_answer(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    look_at("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(BigsError, match=r"could not be fetched from http://127\.0\.0\.1:9") as error:
        fetch_model("someone/all")
    assert error.value.exit_code == 1
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("repo", "revision", "says"),
    [
        ("someone/none", None, "has no model someone/none"),
        ("someone/all", "v9", "has no revision 'v9'"),
        ("someone/gated", None, "is gated"),
        ("someone/empty", None, "holds no weights"),
        ("not a/name/at all", None, "neither a folder here nor a hub id"),
    ],
)
def test_what_cannot_be_had_is_told(repo: str, revision: str | None, says: str, hub: Hub) -> None:
    with pytest.raises(RequestError, match=says):
        fetch_model(repo, revision)
