"""`bigs doctor`: a healthy machine, and problems that stop commands."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import NoReturn

import pytest

from bigs_cli.bench.doctor import EXTRAS
from bigs_cli.core.hub import hub_answers
from tests.tiny import bigs


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIGS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")


def test_a_healthy_machine_is_ready_for_every_command(tmp_path: Path) -> None:
    done = bigs("doctor").fine()
    for word in ("Python", "jax", "cpu", "matrix products", "GB free", "does not answer", "read back in"):
        assert word in done.out
    for verb in ("tokenize", "pretrain", "finetune", "evaluate", "predict", "export"):
        assert f"bigs {verb}: ready" in done.out
    assert list(tmp_path.iterdir()) == []


def test_an_unusable_runs_folder_stops_only_the_commands_that_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BIGS_RUNS", str(tmp_path / "file" / "runs"))
    done = bigs("doctor", "--json", "-")
    assert done.code == 1
    made = json.loads(done.out)
    assert made["stopped_by"]["evaluate"] == []
    (reason,) = made["stopped_by"]["pretrain"]
    assert "file is a file" in reason
    (found,) = [one for one in made["findings"] if one["what"] == "runs"]
    assert found["advice"] == "name another folder with $BIGS_RUNS"


def test_checkpoints_that_cannot_be_saved_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orbax uses the name of this folder as a pattern; the workaround in bigs is disabled."""
    monkeypatch.setenv("BIGS_RUNS", str(tmp_path / "runs [1]"))
    assert "read back in" in bigs("doctor").fine().out
    monkeypatch.setattr("bigs_cli.checkpoints.orbax.plain_path", contextlib.nullcontext)
    done = bigs("doctor", "--json", "-")
    assert done.code == 1
    (found,) = [one for one in json.loads(done.out)["findings"] if one["what"] == "checkpoints"]
    assert "was written but cannot be read back" in found["found"]
    assert found["stops"] == ["pretrain", "finetune"]
    assert not list(tmp_path.iterdir())


def test_hf_hub_offline_prevents_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{hub.getsockname()[1]}")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert "offline because of HF_HUB_OFFLINE" in bigs("doctor").fine().out
        assert not hub_answers()
        hub.setblocking(False)
        with pytest.raises(BlockingIOError):
            hub.accept()


def test_a_missing_device_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> NoReturn:
        raise RuntimeError("the TPU is in use by another process.\nmore")

    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr("jax.devices", none)
    done = bigs("doctor", "--json", "-")
    assert done.code == 1
    (found,) = [one for one in json.loads(done.out)["findings"] if one["what"] == "devices"]
    assert found["found"] == "JAX finds no device (the TPU is in use by another process)"
    assert found["stops"] == ["pretrain", "finetune", "evaluate", "predict", "export"]
    assert "JAX_PLATFORMS=cpu" in found["advice"]


def test_every_extra_in_pyproject_is_listed() -> None:
    import tomllib

    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert EXTRAS.keys() == extras.keys() - {"cuda", "tpu", "dev"}
