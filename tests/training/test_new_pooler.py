"""`new_pooler: unit`: a new pooler is not saturated by large hidden states, and small ones leave it as it is."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from bigs_cli.training.new_pooler import unit_pooler

from bigs_cli.data.encode import Encoded
from bigs_cli.model.functional import initialize, make_apply
from bigs_cli.recipe.config import BiGSConfig
from bigs_cli.recipe.schema import Compute

CONFIG = BiGSConfig(
    head="sequence-classification",
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=2,
    intermediate_size=24,
    num_ssm=4,
    max_position_embeddings=32,
)


@pytest.fixture(scope="module")
def examples() -> Encoded:
    ids = np.random.default_rng(0).integers(1, 50, 8 * 12).astype(np.int32)
    return Encoded(ids, np.arange(0, 97, 12), np.full(8, 12), 32)


def test_large_hidden_states_no_longer_saturate(examples):
    params = initialize(CONFIG, 0)
    params["s4_bert"]["encoder"]["layer"]["do"]["bias"] += 1000.0
    params["s4_bert"]["embeddings"]["LayerNorm"]["scale"] *= 1000.0
    batch = examples.batch(np.arange(8), 8)
    apply = jax.jit(make_apply(CONFIG, Compute()))

    def saturated(params):
        pooled = apply(params, batch["input_ids"], batch["attention_mask"]).pooler_output
        return float((np.abs(np.asarray(pooled)) > 0.999).mean())

    assert saturated(params) > 0.5
    assert saturated(unit_pooler(CONFIG, Compute(), params, examples)) < 0.05


def test_a_pooler_that_is_not_saturated_stays(examples):
    params = initialize(CONFIG, 0)
    scaled = unit_pooler(CONFIG, Compute(), params, examples)
    np.testing.assert_array_equal(
        scaled["s4_bert"]["pooler"]["dense"]["kernel"], params["s4_bert"]["pooler"]["dense"]["kernel"]
    )
