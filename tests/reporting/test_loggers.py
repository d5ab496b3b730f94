"""Loggers, with fake packages: what they receive, and that their failures do not stop a run."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bigs_cli.core.errors import BigsError
from bigs_cli.recipe.schema import PretrainRecipe
from bigs_cli.reporting.loggers import LOGGERS, open_loggers
from tests.tiny import bigs, finetune, pretrain

RESUME = "bigs pretrain --resume --run runs/x"


class Packages:
    """Fake tensorboardX and wandb packages that record their calls."""

    def __init__(self) -> None:
        self.points: list[tuple[str, float, int]] = []
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.started: list[dict[str, Any]] = []
        self.closed: list[str] = []
        self.broken = False

    def SummaryWriter(self, folder: str) -> Any:
        self.folder = folder
        return SimpleNamespace(
            add_scalar=lambda *point: self.points.append(point), close=lambda: self.closed.append("tensorboard")
        )

    def init(self, **named: Any) -> Any:
        if self.broken:
            raise RuntimeError("no account")
        self.started.append(named)
        return SimpleNamespace(log=self._log, finish=lambda: self.closed.append("wandb"))

    def _log(self, values: dict[str, float], step: int) -> None:
        self.rows.append((step, values))
        if len(self.rows) == 3 and self.broken is None:
            raise OSError("no network")


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Packages:
    fakes = Packages()
    for name, function in (("tensorboardX", "SummaryWriter"), ("wandb", "init")):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        setattr(module, function, getattr(fakes, function))
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return fakes


def test_a_run_logs_all_metrics_to_both_loggers(packages: Packages, shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    bigs(*pretrain(shards, run, "--logger", "tensorboard", "--logger", "wandb")).fine()
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = [{"step": step, **values} for step, values in packages.rows]
    assert logged == entries
    assert packages.points == [
        (name, value, entry["step"]) for entry in entries for name, value in entry.items() if name != "step"
    ]
    assert packages.folder == str(run / "tensorboard")
    assert packages.started[0]["config"]["steps"] == 6
    assert (packages.started[0]["project"], packages.started[0]["name"]) == ("bigs", "run")
    assert sorted(packages.closed) == ["tensorboard", "wandb"]
    assert "loggers:\n- tensorboard\n- wandb" in (run / "recipe.yaml").read_text()
    bigs(*pretrain(shards, run, "--resume")).fine()
    assert packages.started[1]["id"] == packages.started[0]["id"]


def test_fine_tuning_logs_to_loggers(packages: Packages, pretrained: Path, glue: Path, tmp_path: Path) -> None:
    bigs(*finetune("mrpc", pretrained, glue, tmp_path / "run", "--logger", "wandb")).fine()
    assert any("dev_accuracy" in values for _, values in packages.rows)
    assert packages.closed == ["wandb"]


def test_a_failing_logger_is_disabled(packages: Packages, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    packages.broken = None  # type: ignore[assignment]
    with open_loggers(("wandb", "tensorboard"), tmp_path, {}, RESUME) as write:
        for step in range(5):
            write(step, {"loss": 1.0})
    assert len(packages.rows) == 3
    assert len(packages.points) == 5
    assert packages.closed == ["tensorboard"]
    assert "wandb failed and receives no further metrics" in capfd.readouterr().err


def test_a_logger_that_cannot_start_ends_the_command(packages: Packages, tmp_path: Path) -> None:
    packages.broken = True
    with (
        pytest.raises(BigsError, match=f"could not be started: no account. Fix this and continue with `{RESUME}`"),
        open_loggers(("tensorboard", "wandb"), tmp_path, {}, RESUME),
    ):
        pass
    assert packages.closed == ["tensorboard"]


@pytest.mark.parametrize("name", LOGGERS)
def test_a_logger_that_is_not_installed_is_reported(
    name: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    done = bigs(*pretrain(shards, tmp_path / "run", "--logger", name))
    assert (done.code, done.out) == (2, "")
    assert f"pip install 'bigs[{name}]'" in done.err
    assert not (tmp_path / "run").exists()


def test_recipes_accept_every_logger() -> None:
    known = PretrainRecipe.model_json_schema()["properties"]["loggers"]["items"]["enum"]
    assert known == list(LOGGERS)
