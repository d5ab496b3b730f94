"""The code in exported folders, as `transformers` loads it; each test has its own module cache."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def own_module_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library copy the code of exported folders into `folder` and import it from there, until the test ends."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))  # the library adds the cache
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
        monkeypatch.delitem(sys.modules, name)
