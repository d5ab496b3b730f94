"""A small vocabulary and masked language models with it, for evaluations without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bigs_cli.checkpoints.arrays import Flat
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import initialize
from bigs_cli.models.published import published_shapes, to_flat

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "the",
    "cat",
    "cats",
    "dog",
    "dogs",
    "sleeps",
    "sleep",
    "is",
    "are",
    "here",
    "near",
    "run",
    "##s",
    "##ning",
    ".",
]
VOCABULARY = [*SPECIAL, *WORDS]


def config(**changes: Any) -> BiGSConfig:
    sizes: dict[str, Any] = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "intermediate_size": 12,
        "num_ssm": 3,
        "max_position_embeddings": 40,
        "initializer_range": 1.0,
        "mask_padding": True,
    }
    return BiGSConfig(**(sizes | changes))


def write_vocabulary(folder: Path) -> Path:
    path = folder / "vocab.txt"
    path.write_text("".join(f"{word}\n" for word in VOCABULARY))
    return path


def parameters(of: BiGSConfig) -> Flat:
    """Return random parameters with wide, strong kernels, so that predictions depend on the context."""
    flat = {path: np.asarray(leaf) for path, leaf in to_flat(initialize(of, 5), of).items()}
    for path, leaf in flat.items():
        if path.endswith("/log_step"):
            flat[path] = np.zeros_like(leaf)
        elif path.endswith("/C"):
            flat[path] = 10 * leaf
    return flat


def opened(folder: Path, of: BiGSConfig) -> OpenModel:
    """Return an opened model with random parameters."""
    return OpenModel("random", of, parameters(of), write_vocabulary(folder), "random")


def opened_frequencies(folder: Path, **frequencies: float) -> OpenModel:
    """Return a unigram model: at every position, the logit of a word is its log-frequency, and others are 0."""
    of = config()
    flat = {path: np.zeros(shape, np.float32) for path, shape in published_shapes(of).items()}
    for word, frequency in frequencies.items():
        flat["cls/predictions/bias"][VOCABULARY.index(word)] = frequency
    return OpenModel("frequencies", of, flat, write_vocabulary(folder), "frequencies")
