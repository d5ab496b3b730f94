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

ARCHITECTURES: dict[str, dict[str, Any]] = {
    f"{block}-{mixer}": {"block": block, "mixer": mixer, "num_attention_heads": 2, "final_norm": True}
    for block in ("gated", "stacked")
    for mixer in ("ssm", "attention")
} | {"pair-pooler": {"pooler_type": "pair", "head": "sequence-classification"}}
"""Changes of the config by name."""


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


_ORDER = (
    *("embeddings", "encoder", "pooler", "cls", "predictions", "transform", "dense"),
    *("word_embeddings", "position_embeddings", "token_type_embeddings", "layer", "LayerNorm", "fs4", "bs4"),
    *("A_re", "A_im", "C", "D", "log_step", "dv", "du_forward", "du_backward", "duc_forward", "duc_backward"),
    *("dol", "do", "scale", "kernel", "embedding", "bias", "decoder", "seq_relationship", "classifier", "qa_outputs"),
    *("query", "key", "value", "attention_output", "feed_forward_norm", "intermediate", "output"),
)


def parameters(of: BiGSConfig, seed: int = 0) -> Flat:
    """Return random numbers, drawn in a fixed order: several tests need a well-conditioned model."""
    random = np.random.default_rng(seed)
    shapes = published_shapes(of)
    return {path: random.standard_normal(shapes[path], np.float32) for path in sorted(shapes, key=_order)}


def _order(path: str) -> list[int]:
    """Return a sort key: embeddings, layers, pooler, head; kernels before biases."""
    parts = path.removeprefix("s4_bert/").split("/")
    return [int(part) if part.isdigit() else _ORDER.index(part) for part in parts]


def same(one: Flat, other: Flat) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[path], other[path]) for path in one)
