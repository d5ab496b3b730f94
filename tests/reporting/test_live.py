"""The live view of a run, which is drawn only on a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from bigs_cli.reporting.live import LiveView, values_line

VALUES = {"loss": 4.5321, "learning_rate": 1.9e-3, "tokens_per_second": 9312.4, "data_wait_fraction": 0.034}


def shown(terminal: bool, width: int = 120) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=width)
    with LiveView("pretrain", 20, 100, peak_tokens=20_000.0, console=console) as view:
        assert view.drawn == terminal
        if terminal:
            view.refresh()
        for step in range(3):
            view.show(VALUES | {"loss": VALUES["loss"] - step})
            view.step()
        if terminal:
            view.refresh()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())


def test_the_live_view_shows_the_progress() -> None:
    text = shown(True)
    assert "compiling the first step" in text
    assert " 20/100" in text
    assert " 23/100" in text
    assert "loss 2.5321  lr 1.90e-03  9,312 tokens/s  47% of peak  waiting for data 3%  █▅▁" in text
    assert "time left" in text


def test_the_live_view_is_truncated_on_a_narrow_terminal() -> None:
    assert max(len(line) for line in re.split(r"[\r\n]", shown(True, width=60)) if "loss" in line) <= 60


def test_the_live_view_draws_nothing_without_a_terminal() -> None:
    assert shown(False) == ""


def test_an_unknown_peak_is_omitted() -> None:
    assert "of peak" not in values_line(VALUES, [1.0]).plain


def test_colours_in_a_pipe_do_not_make_it_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter sets FORCE_COLOR; its output must not contain every frame of a progress bar."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = Console(file=io.StringIO())
    assert console.is_terminal
    assert not LiveView("pretrain", 0, 1, console=console).drawn
