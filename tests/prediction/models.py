"""A tiny untrained model of every head with a tokenizer, and its outputs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli.api import CLASSES, load_model
from bigs_cli.checkpoints.config_json import read_config
from bigs_cli.data.encode import encode_texts
from bigs_cli.data.tokenizer import load_tokenizer

LENGTH = 32
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def write_models(run: Path, root: Path) -> Path:
    """Write a folder for every head with the vocabulary of `run`; large weights make predictions differ."""
    base = read_config(run / "config.json")
    kinds: dict[str, dict[str, Any]] = {
        "masked-lm": {},
        "pretraining": {},
        "next-sentence": {},
        "sequence-classification": {"num_labels": 3, "labels": ("bad", "fair", "good")},
        "token-classification": {"num_labels": 5, "labels": TAGS},
        "question-answering": {},
        "multiple-choice": {},
        "encoder": {},
        "score": {"head": "sequence-classification", "num_labels": 1},
        "parts": {"head": "token-classification", "num_labels": 2, "labels": ("noun", "verb")},
        "trimmed": {"head": "sequence-classification", "mask_padding": True, "num_labels": 2},
    }
    for name, changes in kinds.items():
        config = base.model_copy(update={"initializer_range": 0.3, "head": name, **changes})
        CLASSES[config.head](config, seed=3).save_pretrained(root / name)
        shutil.copy(run / "tokenizer.json", root / name)
    return root


@pytest.fixture(scope="session")
def models(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model folder for every head. Do not modify it."""
    return write_models(pretrained, tmp_path_factory.mktemp("models"))


def outputs(folder: Path, text_a: list[str], text_b: list[str] | None = None) -> tuple[Any, Any]:
    """Return the outputs of a model for texts padded to its maximum length, and their encodings."""
    encoded = encode_texts(load_tokenizer(folder / "tokenizer.json"), text_a, text_b, LENGTH)
    batch = encoded.batch(np.arange(len(text_a)), len(text_a))
    model = load_model(folder)
    inputs = [batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    if model.head == "multiple-choice":
        inputs = [one[:, None] for one in inputs]
    return model(*inputs, output_hidden_states=True), encoded


def probabilities(logits: Any) -> np.ndarray[Any, Any]:
    likely = np.exp(np.asarray(logits, np.float64))
    return likely / likely.sum(-1, keepdims=True)
