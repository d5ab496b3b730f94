"""`compute.dtype: auto` becomes the data type whose matrix products are faster, and the run records it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigs_cli.recipe import load_recipe
from bigs_cli.training import dtype
from tests.tiny import bigs, pretrain


@pytest.mark.parametrize(("bfloat16", "chosen"), [(2e11, "bfloat16"), (5e10, "float32")])
def test_a_run_records_the_faster_type(
    bfloat16: float, chosen: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dtype, "peak_flops", lambda name: {"float32": 1e11, "bfloat16": bfloat16}[name])
    run = tmp_path / "run"
    done = bigs(*pretrain(shards, run, steps=2, **{"compute.dtype": "auto"})).fine()
    assert f"compute.dtype: {chosen}; here, bfloat16 matrix products are {bfloat16 / 1e11:.1f} times" in done.err
    assert load_recipe(str(run / "recipe.yaml")).compute.dtype == chosen
    # Resuming elsewhere keeps the type.
    monkeypatch.setattr(dtype, "peak_flops", lambda name: 1 / 0)
    bigs("pretrain", "--resume", "--run", str(run)).fine()


def test_other_types_are_kept_and_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtype, "peak_flops", lambda name: 1 / 0)
    recipe = load_recipe("demo", ["compute.dtype=bfloat16"])
    assert dtype.with_dtype(recipe) is recipe
