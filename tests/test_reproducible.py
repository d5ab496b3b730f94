"""The same commands write the same bytes in two processes with different hash seeds and times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import ROOT, bigs, finetune, parameters, pretrain, write_shards, write_tasks

TIMES = {"seconds", "tokens_per_second", "data_wait_fraction", "started"}
"""Keys whose values depend on the clock."""


def chain(folder: Path) -> None:
    """Tokenize, pretrain, fine-tune, evaluate, predict and export in `folder`."""
    os.chdir(folder)
    here = Path()
    shards, glue = write_shards(here), write_tasks(here / "glue")
    bigs(*pretrain(shards, Path("base"))).fine()
    bigs(*finetune("mrpc", "base", glue, Path("mrpc"))).fine()
    scores = bigs(
        "evaluate", "mrpc", "--model", "mrpc", "--data", glue, "--predictions", "answers.jsonl", "--json"
    ).fine()
    Path("scores.json").write_text(scores.out)
    bigs("predict", "--model", "mrpc", "--pair", "The sea.", "The river rises.", "--output", "answers.jsonl").fine()
    for form in ("flax", "torch", "transformers", "stablehlo"):
        bigs("export", "--model", "mrpc", "--format", form, "--output", Path("exports", form)).fine()


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders in which the same commands ran."""
    folders = [tmp_path_factory.mktemp("chain") for _ in range(2)]
    for number, folder in enumerate(folders):
        script = f"from pathlib import Path; from tests.test_reproducible import chain; chain(Path({str(folder)!r}))"
        environment = os.environ | {"PYTHONHASHSEED": str(number), "BIGS_CACHE": str(folder / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return folders


def test_all_files_have_the_same_bytes(twice: list[Path]) -> None:
    files = [{path.relative_to(root) for path in root.rglob("*") if path.is_file()} for root in twice]
    one, other = ({path for path in found if not _is_aside(path)} for found in files)
    assert one == other
    assert {path.parts[0] for path in one} >= {"shards", "base", "mrpc", "exports", "scores.json", "answers.jsonl"}
    assert [str(path) for path in sorted(one) if _content(twice[0], path) != _content(twice[1], path)] == []


def test_all_checkpoints_have_the_same_bits(twice: list[Path]) -> None:
    for kept in ("base/checkpoints", "mrpc/best"):
        one, other = (parameters(root / kept) for root in twice)
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


def _is_aside(path: Path) -> bool:
    """Return whether not to compare a file: Orbax names files at random, and the cache is not a result."""
    return bool({"checkpoints", "best", "cache"} & set(path.parts))


def _content(root: Path, path: Path) -> Any:
    """Return the bytes of a file below `root` or, for JSON, its values without clock values and without `root`."""
    if path.suffix not in (".json", ".jsonl"):
        return (root / path).read_bytes()
    text = (root / path).read_text().replace(str(root), "")
    texts = [text] if path.suffix == ".json" else text.splitlines()
    return [_timeless(json.loads(text)) for text in texts]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return [(name, _timeless(one)) for name, one in value.items() if name not in TIMES]
    return [_timeless(one) for one in value] if isinstance(value, list) else value
