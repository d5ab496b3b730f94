"""The smallest models that have every parameter, as configs and flat parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from bigs_cli.checkpoints.arrays import Flat
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.published import published_shapes

HEADS = (
    "encoder",
    "masked-lm",
    "pretraining",
    "next-sentence",
    "sequence-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
)


def config(**changes: Any) -> BiGSConfig:
    sizes: dict[str, Any] = {
        "vocab_size": 11,
        "hidden_size": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 6,
        "num_ssm": 3,
        "max_position_embeddings": 5,
    }
    return BiGSConfig(**(sizes | changes))


def parameters(of: BiGSConfig, seed: int = 0) -> Flat:
    random = np.random.default_rng(seed)
    return {path: random.standard_normal(shape, np.float32) for path, shape in published_shapes(of).items()}


def same(one: Flat, other: Flat) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[path], other[path]) for path in one)
