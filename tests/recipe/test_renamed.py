"""Keys and options of earlier releases still work, and a note names the new ones."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli.commands.options import RENAMED
from bigs_cli.core.errors import notice
from bigs_cli.recipe import dump_recipe, load_recipe
from bigs_cli.recipe.renamed import RENAMED_KEYS
from tests.tiny import bigs, finetune, parameters, pretrain

VALUES: dict[str, tuple[str, Any]] = {  # a recipe with the key, and a value other than its default
    "accumulate": ("small", 2),
    "batch_ramp": ("small", {"start": 8, "steps": 10}),
    "freeze": ("mrpc", True),
    "new_pooler": ("mrpc", "unit"),
    "optimizer.kernel": ("small", {"lr_multiplier": 0.5}),
    "schedule.final_fraction": ("small", 0.3),
    "track": ("mrpc", ["wandb"]),
}


@pytest.fixture(autouse=True)
def _forget_printed_notes() -> None:
    notice.cache_clear()


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize(("old", "new"), RENAMED_KEYS.items())
def test_keys_of_earlier_releases_are_accepted(old: str, new: str, tmp_path: Path) -> None:
    name, value = VALUES[old]
    expected = load_recipe(name, [f"{new}={json.dumps(value)}"])
    assert expected != load_recipe(name)
    notes: list[tuple[str, str]] = []
    sentence = f"'{old}' is deprecated; use '{new}'."
    by_option = load_recipe(name, [f"{old}={json.dumps(value)}"], deprecated=lambda *note: notes.append(note))
    assert (by_option, notes) == (expected, [(f"--set {old}={json.dumps(value)}", sentence)])

    mine = tmp_path / "mine.yaml"
    base = "extends: small" if name == "small" else "extends: _glue\ntask: mrpc\nfrom: mnli"
    mine.write_text(f"{base}\n{json.dumps(nested(old, value))[1:-1]}\n")
    assert load_recipe(str(mine)) == expected
    line, column = len(base.splitlines()) + 1, mine.read_text().splitlines()[-1].index(f'"{old.split(".")[-1]}"') + 1
    checked = bigs("recipes", "validate", mine).fine()
    assert f"{mine}:{line}:{column}: {sentence}" in checked.err.replace("\n", " ")


def test_a_note_is_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text("extends: small\naccumulate: 2\n")
    for _ in range(2):
        load_recipe(str(tmp_path / "mine.yaml"), ["accumulate=4"])
    assert capsys.readouterr().err == "'accumulate' is deprecated; use 'gradient_accumulation_steps'.\n"


def test_a_key_under_both_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: small\naccumulate: 2\ngradient_accumulation_steps: 2\n")
    refused = bigs("recipes", "validate", tmp_path / "mine.yaml")
    assert (refused.code, "There is no key 'accumulate'" in refused.err) == (2, True)


def test_an_option_of_an_earlier_release_selects_the_validation_curve(pretrained: Path, tmp_path: Path) -> None:
    done = bigs("runs", "plot", "--learning", pretrained, "--output", tmp_path / "curve.png")
    assert "--learning is deprecated; use --validation-curve." in done.err
    assert "--validation-curve applies only to fine-tuning runs" in done.err


def test_the_documentation_names_all_renamed_options() -> None:
    page = " ".join((Path(__file__).parents[2] / "docs" / "recipes.md").read_text().split())
    assert all(f"`{old}` (now `{new}`)" in page for old, new in RENAMED.items())


@pytest.mark.parametrize("old", ["--freeze", "--track"])
def test_options_of_earlier_releases_are_accepted(old: str, pretrained: Path, glue: Path, tmp_path: Path) -> None:
    new = RENAMED[old]
    value, code = {"--freeze": ((), 0), "--track": (("wandbb",), 2)}[old]
    done = bigs(*finetune("mrpc", pretrained, glue, tmp_path / "run", "--dry-run", old, *value))
    assert done.code == code, done.err
    assert done.err.splitlines().count(f"{old} is deprecated; use {new}.") == 1
    assert "freeze_ssm: true" in done.out if old == "--freeze" else "wandbb" in done.err
    assert old not in bigs("finetune", "--help").out.replace("--freeze-ssm", "").split()


def test_a_run_of_an_earlier_release_is_resumed(shards: Path, tmp_path: Path) -> None:
    """The result is the same bit for bit, with a recipe.yaml that has only the old names."""
    whole, old = tmp_path / "whole", tmp_path / "old"
    sizes = {"batch_size_warmup": "{start: 4, steps: 4}", "gradient_accumulation_steps": 2}
    bigs(*pretrain(shards, whole, checkpoint__every_steps=3, optimizer__ssm__lr_multiplier=0.5, **sizes)).fine()
    shutil.copytree(whole, old)
    (old / "results.json").unlink()
    shutil.rmtree(old / "checkpoints" / "6")
    text = dump_recipe(load_recipe(str(whole / "recipe.yaml")))
    for before, now in RENAMED_KEYS.items():
        text = re.sub(rf"\b{now.split('.')[-1]}:", f"{before.split('.')[-1]}:", text)
    assert "gradient_accumulation_steps" not in text
    (old / "recipe.yaml").write_text(text)
    done = bigs(*pretrain(shards, old, "--resume")).fine()
    assert "is deprecated" not in done.err  # Users do not edit the recipe of a run.
    expected, resumed = parameters(whole / "checkpoints"), parameters(old / "checkpoints")
    assert all(np.array_equal(expected[path], resumed[path]) for path in expected)
