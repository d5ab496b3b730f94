"""Input arrays of models: values out of range, wrong shapes and wrong types are rejected and never give NaN."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli import BiGSModel
from bigs_cli.api import CLASSES
from bigs_cli.checkpoints.config_json import read_config
from bigs_cli.models.config import Head
from tests.checkpoints.tiny import config
from tests.tiny import bigs, finetune

IDS = [[2, 7, 1, 3, 9], [2, 5, 3, 0, 0]]
MASK, TYPES = [[1] * 5, [1, 1, 1, 0, 0]], [[0, 0, 1, 1, 1], [0, 0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("head", "inputs", "message"),
    [
        ("masked-lm", {"input_ids": [[1] * 6]}, "The input has 6 tokens; this model takes at most 5."),
        ("masked-lm", {"input_ids": [1, 2]}, "input_ids has the shape [2]; the head masked-lm takes [B, L]."),
        (
            "multiple-choice",
            {"input_ids": IDS},
            "has the shape [2, 5]; the head multiple-choice takes [B, choices, L].",
        ),
        ("masked-lm", {"input_ids": [[1, 11]]}, "input_ids has values from 1 to 11; the ids of the vocabulary are 0"),
        ("masked-lm", {"input_ids": [[1, -1]]}, "input_ids has values from -1 to 1; the ids of the vocabulary are 0"),
        ("masked-lm", {"input_ids": [[1.5]]}, "input_ids has float64 values; it needs integers."),
        ("masked-lm", {"input_ids": [[True]]}, "input_ids has bool values; it needs integers."),
        ("masked-lm", {"input_ids": [["a"]]}, "input_ids has str32 values; it needs integers."),
        ("masked-lm", {"input_ids": None}, "input_ids has object values; it needs integers."),
        ("masked-lm", {"input_ids": [[1], [1, 2]]}, "input_ids has rows of different lengths. Pad them to one length."),
        ("masked-lm", {"input_ids": np.zeros((0, 5), int)}, "input_ids is empty: its shape is [0, 5]."),
        ("masked-lm", {"input_ids": np.zeros((2, 0), int)}, "input_ids is empty: its shape is [2, 0]."),
        ("masked-lm", {"input_ids": [[]]}, "input_ids is empty: its shape is [1, 0]."),
        ("encoder", {"token_type_ids": [[7] * 5] * 2}, "token_type_ids has values from 7 to 7; the token types of"),
        (
            "encoder",
            {"token_type_ids": [[-1] * 5] * 2},
            "token_type_ids has values from -1 to -1; the token types of",
        ),
        (
            "encoder",
            {"token_type_ids": [[0] * 4] * 2},
            "token_type_ids has the shape [2, 4]; it must have the shape of input_id",
        ),
        (
            "encoder",
            {"attention_mask": [[1] * 4] * 2},
            "attention_mask has the shape [2, 4]; it must have the shape of input_ids",
        ),
        ("encoder", {"attention_mask": [[1, 1, 2, 1, 1]] * 2}, "attention_mask has values from 1 to 2; the values for"),
        (
            "encoder",
            {"attention_mask": [[0.5] * 5] * 2},
            "attention_mask has float64 values; it needs integers.",
        ),
        (
            "encoder",
            {"attention_mask": [[np.nan] * 5] * 2},
            "attention_mask has float64 values; it needs integers.",
        ),
        ("encoder", {"positions": [[1], [1]]}, "positions are for models that predict masked words; the head of this"),
        (
            "masked-lm",
            {"positions": [[9], [1]]},
            "positions has values from 1 to 9; the positions of a row are 0 to 4",
        ),
        ("masked-lm", {"positions": [[-1], [1]]}, "positions has values from -1 to 1; the positions of a row are 0"),
        ("masked-lm", {"positions": [[1]]}, "positions has the shape [1, 1]; it needs [B, P], here with B = 2."),
        ("masked-lm", {"positions": [1, 2]}, "positions has the shape [2]; it needs [B, P], here with B = 2."),
    ],
)
def test_invalid_arrays_are_rejected(head: Any, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        CLASSES[head](config(head=head))(**{"input_ids": IDS, **inputs})


def test_boolean_and_float_masks_are_accepted() -> None:
    model = BiGSModel(config(head="encoder"))
    expected = np.asarray(model(IDS, MASK, TYPES).pooler_output)
    for mask in (np.array(MASK, bool), np.array(MASK, np.float32)):
        np.testing.assert_array_equal(model(IDS, mask, TYPES).pooler_output, expected)


def test_pairs_are_rejected_by_a_model_with_one_token_type(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    """The second text has token type 1, for which such a model would output NaN."""
    base = read_config(pretrained / "config.json").model_copy(update={"type_vocab_size": 1})
    heads: tuple[Head, ...] = ("masked-lm", "sequence-classification")
    for head in heads:
        CLASSES[head](base.model_copy(update={"head": head}), seed=3).save_pretrained(tmp_path / head)
        shutil.copy(pretrained / "tokenizer.json", tmp_path / head)
    classifier = tmp_path / "sequence-classification"
    commands: list[list[Any]] = [
        ["predict", "the river", "--pair", "the sea", "--model", classifier],
        ["eval", "mrpc", "--data", glue, "--model", classifier],
        finetune("mrpc", tmp_path / "masked-lm", glue, tmp_path / "run"),
    ]
    for command in commands:
        done = bigs(*command)
        assert (done.code, done.out) == (2, "")
        assert "A pair of texts requires two token types, but this model has one" in " ".join(done.err.split())
    assert not (tmp_path / "run").exists()
    assert bigs("predict", "the river", "--model", classifier, "--format", "jsonl").fine().out
