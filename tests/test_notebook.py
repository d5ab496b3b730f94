"""docs/tutorial.ipynb runs from top to bottom, here with fewer steps."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install nbclient ipykernel")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        for recipe, steps in (("--recipe demo", "--set steps=100"), ("--recipe custom-small", "--set epochs=0.2")):
            cell.source = cell.source.replace(recipe, f"{recipe} {steps}")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    printed = ["".join(output.get("text", "") for output in cell.outputs) for cell in code]
    assert "validation loss" in printed[1]
    assert "mean" in printed[4]
    assert sum(line.split()[0] in {"files", "network", "numbers", "text"} for line in printed[5].splitlines()) == 3
    assert any("image/png" in output.get("data", {}) for output in code[6].outputs)
    assert (tmp_path / "work" / "exported" / "model.safetensors").is_file()
