"""`bigs doctor`: what is well, and what would stop a verb."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bigs_cli.bench.doctor import EXTRAS
from tests.tiny import bigs


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIGS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")


def test_all_is_well(tmp_path: Path) -> None:
    done = bigs("doctor").fine()
    for word in ("Python", "jax", "cpu", "matrix products", "GB free", "does not answer"):
        assert word in done.out
    for verb in ("tokenize", "pretrain", "finetune", "evaluate", "predict", "export"):
        assert f"bigs {verb}: nothing stops it" in done.out
    assert list(tmp_path.iterdir()) == []


def test_what_stops_a_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BIGS_RUNS", str(tmp_path / "file" / "runs"))
    done = bigs("doctor", "--json", "-")
    assert done.code == 1
    made = json.loads(done.out)
    assert made["stopped_by"]["evaluate"] == []
    (reason,) = made["stopped_by"]["pretrain"]
    assert "file is a file" in reason
    (found,) = [one for one in made["findings"] if one["what"] == "runs"]
    assert found["advice"] == "name another with $BIGS_RUNS"


def test_every_extra_is_known() -> None:
    import tomllib

    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert EXTRAS.keys() == extras.keys() - {"cuda", "tpu", "dev"}
