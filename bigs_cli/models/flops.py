"""The number of floating-point operations of a model, computed from its config.

A multiplication and an addition count as two operations. The count includes the matrix products of dense layers, mixing
and head. It excludes elementwise operations (norms, GELUs, gates) and the SSM kernels, which are computed once per
step: they are less than 1% at the published size.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax

from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import parameter_shapes
from bigs_cli.models.mixers import attention_flops, choose


@dataclass(frozen=True)
class Flops:
    """Operations of a forward pass of one row, by part of the model."""

    dense: float
    mixing: float
    head: float

    @property
    def forward(self) -> float:
        """The operations of a forward pass."""
        return self.dense + self.mixing + self.head

    @property
    def training(self) -> float:
        """The operations of a forward and a backward pass.

        The gradient of a product is two products of the same size, one per factor, so the total is three forward
        passes. Recomputation by `remat` is not counted.
        """
        return 3 * self.forward


def count_flops(config: BiGSConfig, L: int, mixing: str = "auto", predictions: int | None = None) -> Flops:
    """Count the operations of one row of `L` tokens (multiple choice: of one choice).

    Per token, each layer multiplies by its dense kernels: in a gated block with SSMs, dv, dol and do (H·I each), and du
    and duc in both directions (4 H²). Mixing is counted for H channels: attention, or SSMs in both directions with the
    mixer `mixing`. The masked-LM head runs at `predictions` (P) positions, or at all: H² for its transform and H·V for
    the vocabulary. Poolers cost H², classifiers H·labels.

    Raises:
        ValueError: there is no mixer of that name.
    """
    H, V, depth = config.hidden_size, config.vocab_size, config.num_hidden_layers
    kernels = [
        ({key.key for key in path}, leaf.size)
        for path, leaf in jax.tree_util.tree_leaves_with_path(parameter_shapes(config))
        if path[-1].key == "kernel"
    ]
    encoder = sum(size for path, size in kernels if "encoder" in path)
    words = sum(size for path, size in kernels if "predictions" in path)
    if words and config.tie_word_embeddings:
        words += H * V
    # With a pooler, the other layers of the head run on the pooled state, otherwise on every token.
    others = sum(size for path, size in kernels if not path & {"encoder", "predictions"})
    rows = 1 if any("pooler" in path for path, _ in kernels) else L
    return Flops(
        dense=2 * L * encoder,
        mixing=depth * H * (attention_flops(L) if config.attends else 2 * choose(mixing, L).flops(L, config.num_ssm)),
        head=2 * ((L if predictions is None else predictions) * words + rows * others),
    )
