"""How much arithmetic a model takes: counted from its shapes, nothing is run.

A multiplication and an addition are two operations. Counted are the products that grow with the square of something:
dense maps, mixing, the head. Not counted is what is done once an entry (norms, GELUs, gates) or once a step whatever
its rows (the kernels of the SSMs): under 1% at the published size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bigs_cli.models.mixers import CHUNK, resolve
from bigs_cli.recipe.config import BiGSConfig

# (L, N) → operations for one channel of one row, in one direction: one entry for each of `mixing.MIXERS`.
MIXING: dict[str, Callable[[int, int], float]] = {
    # T `[L, L]` times u `[L]`, zeros included.
    "dense": lambda L, N: 2 * L * L,
    # In each chunk of Q: T `[Q, Q]`, Q tokens to 2N numbers of the state, and these back. The last chunk is filled up.
    "chunked": lambda L, N: 2 * math.ceil(L / min(CHUNK, L)) * min(CHUNK, L) * (min(CHUNK, L) + 4 * N),
    # Two real transforms of length 2L, each 2.5 · 2L · log2(2L) by the usual count, and L + 1 complex products.
    "fft": lambda L, N: 2 * 2.5 * 2 * L * math.log2(2 * L) + 6 * (L + 1),
    # For each token and state a complex product (6) and sum (2), and the real part of another, summed (4).
    "recurrence": lambda L, N: 12 * L * N,
}


@dataclass(frozen=True)
class Flops:
    """Operations of a forward pass of one row, by what they are spent on."""

    dense: float
    mixing: float
    head: float

    @property
    def forward(self) -> float:
        """All of a forward pass."""
        return self.dense + self.mixing + self.head

    @property
    def training(self) -> float:
        """A forward and a backward pass.

        Each product of two factors has two in its gradient, one for either factor, of the same size: three times the
        forward pass. What `remat` computes again is not counted: it is the price of memory, not work on the model.
        """
        return 3 * self.forward


def count_flops(config: BiGSConfig, L: int, mixing: str = "auto", predictions: int | None = None) -> Flops:
    """Count the operations of one row of `L` tokens (multiple choice: of one choice).

    For a token, each layer multiplies with dv, dol and do (H·I each) and with du and duc in both directions (4 H²).
    Mixing is counted as `mixing` does it, for H channels in both directions. The word head works on `predictions` (P)
    places, or on all: H² for its transform and H·V for the vocabulary. Poolers and classifiers are H² and H·labels.

    Raises:
        ValueError: there is no mixer of that name.
    """
    H, I, V, depth = config.hidden_size, config.intermediate_size, config.vocab_size, config.num_hidden_layers
    words = 2 * (L if predictions is None else predictions) * (H * H + H * V)
    pooler = 2 * H * H
    head = {
        "encoder": pooler,
        "masked-lm": words,
        "pretraining": words + pooler + 2 * H * 2,
        "next-sentence": pooler + 2 * H * 2,
        "sequence-classification": pooler + 2 * H * config.num_labels,
        "token-classification": 2 * L * H * config.num_labels,
        "question-answering": 2 * L * H * 2,
        "multiple-choice": pooler + 2 * H,
    }[config.head]
    return Flops(
        dense=depth * 2 * L * (3 * H * I + 4 * H * H),
        mixing=depth * 2 * H * MIXING[resolve(mixing, L)](L, config.num_ssm),
        head=head,
    )
