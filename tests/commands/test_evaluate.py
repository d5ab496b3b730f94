"""Each kind of evaluation of `bigs eval` accepts only its own options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.main import get_command

from bigs_cli.commands.evaluate import app
from tests.tiny import bigs


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("mlm", "--split", "dev"), "--split"),
        (("mlm", "--good", "a"), "--good"),
        (("sst2", "--by", "field"), "--by"),
        (("glue", "--length", "64"), "--length"),
        (("blimp", "--good", "a"), "--good"),
        (("pairs", "--submission", "a.zip"), "--submission"),
        (("agreement", "--within-word"), "--within-word"),
        (("--limit", "3"), "--limit"),
    ],
)
def test_options_of_another_kind_are_refused(words: tuple[str, ...], option: str) -> None:
    refused = bigs("eval", *words)
    assert (refused.code, refused.out) == (2, "")
    assert f"No such option: {option}" in refused.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "glue"), "--data applies only with --submission"),
        (("--batch-size", "4"), "--batch-size applies only with --submission"),
        (("--submission", "a.zip", "--json"), "--json does not apply with --submission"),
    ],
)
def test_options_of_a_glue_submission_apply_only_to_it(words: tuple[str, ...], message: str) -> None:
    refused = bigs("eval", "glue", *words)
    assert (refused.code, refused.out) == (2, "")
    assert message in refused.err


def test_a_pretraining_run_is_evaluated_with_mlm(pretrained: Path) -> None:
    refused = bigs("eval", "--model", pretrained, "--split", "dev")
    assert (refused.code, refused.out) == (2, "")
    assert "--split does not apply" in refused.err
    figures = json.loads(bigs("eval", "--model", pretrained, "--json").fine().out)
    assert figures == json.loads(bigs("evaluate", "--model", pretrained, "mlm", "--json").fine().out)


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ([], ["task"]),
        (["sst2", "--json"], ["task", "sst2", "--json"]),
        (["--model", "mlm"], ["task", "--model", "mlm"]),
        (["--model", "mlm", "mlm"], ["mlm", "--model", "mlm"]),
        (["--json", "glue"], ["glue", "--json"]),
        (["-m", "a", "--data", "pairs", "cola"], ["task", "-m", "a", "--data", "pairs", "cola"]),
    ],
)
def test_the_kind_may_be_anywhere_among_the_arguments(words: list[str], first: list[str]) -> None:
    assert get_command(app).kind_first(words) == first  # type: ignore[attr-defined]


def test_help_lists_the_kinds_and_each_kind_its_options() -> None:
    shown = bigs("eval", "--help").fine().out
    assert all(kind in shown for kind in ("glue", "mlm", "blimp", "pairs", "agreement", "bigs eval TASK"))
    assert "--split" not in shown
    assert "--split" in bigs("eval", "sst2", "--help").fine().out
    assert "--split" not in bigs("eval", "mlm", "--help").fine().out
