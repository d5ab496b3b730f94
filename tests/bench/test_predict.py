"""`bigs bench predict` on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tiny import bigs


def test_predict_is_compared_with_its_forward_pass(pretrained: Path, tmp_path: Path) -> None:
    ask = ("bench", "predict", "--model", pretrained, "--texts", 20, "--rounds", 1)
    report = json.loads(bigs(*ask, "--json", "-").fine().out)["measured"]
    assert report["texts"] == 20
    assert report["tokens"] > 20 * 7
    assert report["predict_s"] > 0 < report["forward_s"]
    (tmp_path / "in.txt").write_text("the river\nthe sea [MASK]\n")
    shown = bigs(*ask, "--input", tmp_path / "in.txt").fine().out
    assert "more time than the forward pass alone" in shown
    assert "does not exist" in bigs(*ask, "--input", tmp_path / "no.txt").err


def test_without_a_model_an_untrained_one_is_measured() -> None:
    report = json.loads(bigs("bench", "predict", "--texts", 2, "--rounds", 1, "--json", "-").fine().out)
    assert report["settings"]["model"] is None
    assert report["measured"]["texts"] == 2
