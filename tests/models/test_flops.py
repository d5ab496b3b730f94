"""The number of operations against XLA's own count for the traced model."""

from __future__ import annotations

from typing import Any, get_args

import jax
import numpy as np
import pytest

from bigs_cli.models.config import BiGSConfig, Head
from bigs_cli.models.flops import count_flops
from bigs_cli.models.functional import make_apply, parameter_shapes
from bigs_cli.recipe.groups import Compute

SHAPE: dict[str, Any] = {
    "vocab_size": 2000,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_ssm": 16,
    "max_position_embeddings": 256,
    "hidden_dropout_prob": 0.0,
}


def traced(config: BiGSConfig, L: int, mixing: str, rows: int = 16) -> float:
    """Return XLA's count per row of a batch, in which operations per step are negligible."""
    apply = make_apply(config, Compute(mixing=mixing))  # type: ignore[arg-type]
    shape = (rows, 1, L) if config.head == "multiple-choice" else (rows, L)
    ids = jax.ShapeDtypeStruct(shape, np.int32)

    def outputs(params: Any, ids: jax.Array) -> Any:
        given = apply(params, ids, None, None)
        return {name: value for name, value in given.items() if name != "hidden_states"}

    cost: Any = jax.jit(outputs).lower(parameter_shapes(config), ids).cost_analysis()
    return cost["flops"] / rows


@pytest.mark.parametrize(("mixing", "L"), [("dense", 128), ("chunked", 256), ("chunked", 200)])
def test_the_count_matches_xla(mixing: str, L: int) -> None:
    config = BiGSConfig(**SHAPE)
    assert count_flops(config, L, mixing).forward == pytest.approx(traced(config, L, mixing), rel=0.04)


@pytest.mark.parametrize("head", get_args(Head))
def test_every_head_is_counted(head: Head) -> None:
    config = BiGSConfig(**SHAPE, head=head, num_labels=3)
    assert count_flops(config, 128, "dense").forward == pytest.approx(traced(config, 128, "dense"), rel=0.04)


def test_unknown_mixers_are_rejected() -> None:
    with pytest.raises(ValueError, match="auto or one of dense"):
        count_flops(BiGSConfig(), 8, "dens")


def test_the_count_for_the_published_model() -> None:
    """By hand: 23 layers with 3·1024·3072 + 4·1024² weights, mixing 2·128 a channel, 20 words of 1024² + 1024·30522."""
    flops = count_flops(BiGSConfig(), 128, predictions=20)
    assert flops.dense == 2 * 128 * 23 * (3 * 1024 * 3072 + 4 * 1024**2)
    assert flops.mixing == 2 * 128 * 23 * 2 * 128 * 1024
    assert flops.head == 2 * 20 * (1024**2 + 1024 * 30522)
    assert flops.training == 3 * flops.forward
