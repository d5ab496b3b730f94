"""From YAML to a checked recipe: positions in errors, `extends`, `--set`, and writing YAML."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigs_cli.core.errors import RequestError
from bigs_cli.recipe import PretrainRecipe, dump_recipe, load_recipe, recipe_comment, recipe_names
from tests.tiny import bigs

deterministic = settings(max_examples=40)


def error_message(path: Path, text: str | bytes, overrides: Sequence[str] = ()) -> str:
    """Return the error message for a recipe file with `text`, without its folder."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RequestError) as caught:
        load_recipe(str(path), overrides)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


def test_all_problems_are_reported_with_their_positions(mine: Path) -> None:
    text = """\
extends: small
step: 3
batch_size: many
batch_size: 4
optimizer:
  learning_rat: 1e-3
schedule: {kind: cosin}
"""
    assert error_message(mine, text, ["seed=x", "optimizer.lr=3", "oops"]).splitlines() == [
        "The recipe mine.yaml has 8 problems:",
        "  mine.yaml:4:1: 'batch_size' is set twice, first at mine.yaml:3:1. Remove one of the two.",
        "  --set oops: This is not KEY=VALUE, as in --set optimizer.learning_rate=1e-4.",
        "  mine.yaml:3:13: 'batch_size' should be a whole number, not 'many'.",
        "  mine.yaml:6:3: There is no key 'learning_rat' in 'optimizer'. Did you mean 'learning_rate'?",
        "  --set optimizer.lr=3: There is no key 'lr' in 'optimizer'. The keys are name, learning_rate, "
        "beta1, beta2, epsilon, momentum, weight_decay, clip_norm, ema, stop_after_nonfinite, layer_decay, ssm.",
        "  mine.yaml:7:18: 'schedule.kind' should be 'cosine', 'linear', 'constant' or 'wsd', not 'cosin'. "
        "Did you mean 'cosine'?",
        "  --set seed=x: 'seed' should be a whole number, not 'x'.",
        "  mine.yaml:2:1: There is no key 'step'. Did you mean 'steps'?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.yaml: A recipe must be a mapping"),
        ("- 1\n", "mine.yaml:1:1: A recipe must be a mapping"),
        ("kind: [", "mine.yaml:1:8: This is not valid YAML: "),
        ("kind:\n\t- x", "mine.yaml:2:1: This is not valid YAML: "),
        ("a: \x01", "mine.yaml: This is not valid YAML: "),
        ("kind: finetun", "mine.yaml:1:7: 'kind' is 'finetun'; it must be pretrain or finetune."),
        ("steps: 3", "mine.yaml:1:1: 'kind' is missing; it must be"),
        ("a: &x 1\n", "mine.yaml:1:4: Anchors and aliases"),
        ("a: !!python/object/apply:os.system [x]", "mine.yaml:1:4: Tags (!) are not supported"),
        ("a: " + "[" * 40 + "]" * 40, "mine.yaml:1:19: The nesting is deeper than 16 levels"),
        ("extends: small\n[a]: 1", "mine.yaml:2:1: A key must be a word"),
        ("extends: smal", "mine.yaml:1:10: There is no recipe 'smal'. Did you mean 'small'?"),
        ("extends: [small]", "mine.yaml:1:10: 'extends' must be the name of a recipe"),
        ("extends: ./none.yaml", "mine.yaml:1:10: There is no recipe file none.yaml."),
        ("extends: mrpc", "mine.yaml:1:10: 'mrpc' in turn extends '_glue'"),
        ("extends: ./mine.yaml", "mine.yaml:1:10: './mine.yaml' in turn extends './mine.yaml'"),
        ("extends: small\nsteps: " + "9" * 5000, "mine.yaml:2:8: 'steps' should be a whole number"),
        (b"\xff\xfe\x00", "mine.yaml is not UTF-8 text"),
        (b" " * (2**20 + 1), "mine.yaml is larger than 1 MiB"),
    ],
)
def test_invalid_files_are_refused(mine: Path, text: str | bytes, message: str) -> None:
    assert error_message(mine, text).startswith(message)


def test_missing_keys_are_explained(mine: Path) -> None:
    message = error_message(mine, "kind: finetune\ntask: mrpc\n")
    assert "mine.yaml:1:1: 'epochs' is missing (number of passes over the training set)." in message


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"Did you mean 'mrpc'.*bigs recipes list"):
        load_recipe("mrcp")
    with pytest.raises(RequestError, match=r"There is no recipe file .*bigs recipes copy"):
        load_recipe(str(tmp_path / "none.yaml"))
    with pytest.raises(RequestError, match="cannot be read"):
        load_recipe(f"{tmp_path}/")


def test_extends_and_set_are_merged_by_key(mine: Path) -> None:
    mine.write_text("extends: small\noptimizer: {learning_rate: 5e-4}\nlog_every: 7\n")
    parent = load_recipe("small")
    recipe = load_recipe(str(mine), ["log_every=8", "log_every=9", "optimizer.ssm.lr_multiplier=.5", "from=a/b"])
    assert isinstance(parent, PretrainRecipe)
    assert isinstance(recipe, PretrainRecipe)
    optimizer = parent.optimizer.model_copy(
        update={
            "learning_rate": 5e-4,
            "ssm": parent.optimizer.ssm.model_copy(update={"lr_multiplier": 0.5}),
        }
    )
    assert recipe == parent.model_copy(update={"optimizer": optimizer, "log_every": 9, "from_": "a/b"})


def test_extends_is_relative_to_its_file(mine: Path) -> None:
    (mine.parent / "base.yaml").write_text(dump_recipe(load_recipe("demo")))
    mine.write_text("extends: ./base.yaml\nseed: 1\n")
    assert load_recipe(str(mine)) == load_recipe("demo", ["seed=1"])


@pytest.mark.parametrize(
    ("written", "value"), [("6e-4", 6e-4), ("1e-12", 1e-12), (".5", 0.5), ("1_000", 1000.0), ("2.", 2.0)]
)
def test_all_number_formats_are_parsed(written: str, value: float) -> None:
    recipe = load_recipe("cola", [f"epochs={written}"])
    assert recipe == load_recipe("cola").model_copy(update={"epochs": value})


def test_words_that_yaml_would_convert_remain_text() -> None:
    for word in ("no", "on", "2024-01-01", "1:30", "off"):
        assert load_recipe("cola", [f"task={word}"]).model_dump()["task"] == word


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_survives_the_round_trip(name: str, mine: Path) -> None:
    recipe = load_recipe(name)
    mine.write_text(dump_recipe(recipe))
    assert load_recipe(str(mine)) == recipe


_text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co"]), min_size=1, max_size=20)
_positive = st.floats(min_value=1e-300, max_value=1e300)


@deterministic
@given(
    task=st.one_of(_text, st.sampled_from(["null", "true", "6e-4", "1:30", "~", "a: b", "- x", " ", "#", "\n", "😀"])),
    start=st.none() | _text,
    epochs=_positive,
    rate=_positive,
    fraction=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
    remat=st.sampled_from(["none", "layer"]),
)
def test_any_recipe_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    task: str,
    start: str | None,
    epochs: float,
    rate: float,
    fraction: float,
    seed: int,
    remat: str,
) -> None:
    plain = load_recipe("cola")
    optimizer = plain.optimizer.model_copy(update={"learning_rate": rate})
    schedule = plain.schedule.model_copy(update={"warmup_fraction": fraction, "min_lr_ratio": 1 - fraction})
    compute = plain.compute.model_copy(update={"remat": remat})
    parts = {"optimizer": optimizer, "schedule": schedule, "compute": compute}
    recipe = plain.model_copy(update={"task": task, "from_": start, "epochs": epochs, "seed": seed, **parts})
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(str(path)) == recipe


@deterministic
@given(st.binary(max_size=60) | st.text("abc:-{}[]&*!#'\"\n \t\\%@|>,?1e.", max_size=60).map(str.encode))
def test_random_files_are_refused_with_a_message(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.yaml"
    assert "noise.yaml" in error_message(path, raw)


@pytest.mark.parametrize(
    ("key", "value", "notes"),
    [
        ("layout", "rows", 1),
        ("layout", "auto", 0),  # the value in every recipe that a run saved
        ("scan_layers", "true", 1),
        ("scan_layers", "auto", 0),
        ("mixing", "fft", 1),
        ("mixing", "recurrence", 1),
        ("mixing", "chunked", 0),
    ],
)
def test_removed_compute_settings_are_ignored_with_a_note(key: str, value: str, notes: int, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: small\ncompute:\n  remat: layer\n  {key}: {value}\n", encoding="utf-8")
    found: list[str] = []

    def note(place: str, sentence: str) -> None:
        found.append(f"{place}: {sentence}")

    compute = load_recipe(str(file), deprecated=note).compute
    assert (compute.remat, compute.mixing) == ("layer", "chunked" if value == "chunked" else "auto")
    assert len(found) == notes
    assert all(f"mine.yaml:4:3: 'compute.{key}" in note and "is ignored" in note for note in found)
    done = bigs("recipes", "validate", file).fine()
    assert ("is ignored" in done.err.replace("\n", " ")) == bool(notes)
    assert load_recipe("small", [f"compute.{key}={value}"], deprecated=note).compute.remat == "none"
    assert len(found) == 2 * notes


def test_comment_is_the_block_at_the_top() -> None:
    lines = recipe_comment("small").splitlines()
    assert lines[0].startswith("A small model for one CPU")
    assert lines[-1].startswith("Run: ")


def test_checking_a_recipe_imports_no_jax() -> None:
    load = "import sys, bigs_cli.recipe as r; r.load_recipe('small')"
    code = f"{load}; assert not {{'jax', 'numpy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_name_in_extends_that_is_too_long_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"extends: {'x' * 300}.yaml\n")
    with pytest.raises(RequestError, match="cannot be read: File name too long"):
        load_recipe(str(tmp_path / "mine.yaml"))
