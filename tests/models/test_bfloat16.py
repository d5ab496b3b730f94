"""Arithmetic in bfloat16: gradients that are sums over all tokens are summed in float32, and logits are float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import initialize, make_apply, unstack_layers
from bigs_cli.models.heads import HEADS
from bigs_cli.recipe.groups import Compute

B, L, WORDS = 256, 32, 8
CONFIG = BiGSConfig(
    vocab_size=64,
    hidden_size=32,
    num_hidden_layers=1,
    intermediate_size=96,
    num_ssm=8,
    max_position_embeddings=L,
    initializer_range=0.2,
    hidden_dropout_prob=0.0,
    tie_word_embeddings=False,
)


def run(config, compute, unstacked, ids, params=None, **named):
    params = initialize(config, 0) if params is None else params
    return make_apply(config, compute, unstacked)(unstack_layers(params) if unstacked else params, ids, **named)


def gradients(compute, unstacked):
    """Return the gradients of the mean loss over a text of a few words, each repeated a thousand times."""
    rng = np.random.default_rng(0)
    ids = jnp.asarray(rng.integers(1, WORDS, (B, L)), jnp.int32)
    labels = ids % 2

    def loss(params):
        logits = run(CONFIG, compute, unstacked, ids, params, key=jax.random.key(0)).logits
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1).mean()

    tree = jax.jit(jax.grad(loss))(initialize(CONFIG, 0))
    # Compare the five SSM parameters together: the gradient of the step is one number, which may nearly cancel.
    layer = tree["s4_bert"]["encoder"]["layer"]
    ssms = {name: np.concatenate([np.ravel(leaf) for leaf in layer.pop(name).values()]) for name in ("fs4", "bs4")}
    return ssms | {jax.tree_util.keystr(path): np.asarray(a) for path, a in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("unstacked", [False, True])
def test_bfloat16_gradients_match_float32(unstacked):
    exact = gradients(Compute(), unstacked)
    rounded = gradients(Compute(dtype="bfloat16"), unstacked)
    errors = {name: np.linalg.norm(rounded[name] - a) / np.linalg.norm(a) for name, a in exact.items()}
    assert len(errors) > 25
    assert not {name: error for name, error in errors.items() if error > 0.04}


@pytest.mark.parametrize("unstacked", [False, True])
@pytest.mark.parametrize("head", [head for head in HEADS if head != "encoder"])
def test_logits_are_not_rounded_to_bfloat16(head, unstacked):
    """If the logits were bfloat16 values cast to float32, only a few hundred of the thousands would differ."""
    config = CONFIG.model_copy(update={"head": head, "num_labels": 1})
    shape = (512, 2, 8) if head == "multiple-choice" else (1024, 8)
    ids = np.random.default_rng(0).integers(1, 64, shape).astype(np.int32)
    outputs = jax.jit(lambda ids: run(config, Compute(dtype="bfloat16"), unstacked, ids))(ids)
    for name in [name for name in outputs if name.endswith("logits")]:
        logits = outputs[name]
        assert logits.dtype == jnp.float32
        representable = np.asarray(logits.astype(jnp.bfloat16).astype(jnp.float32) == logits)
        assert representable.mean() < 0.01, name
        assert len(np.unique(np.asarray(logits))) > 0.98 * min(logits.size, 1024), name


def test_logits_are_the_float32_product_of_the_features():
    config = CONFIG.model_copy(update={"head": "sequence-classification", "num_labels": 3})
    ids = np.random.default_rng(0).integers(1, 64, (64, 8)).astype(np.int32)
    params = initialize(config, 0)
    outputs = jax.jit(lambda ids: run(config, Compute(dtype="bfloat16"), True, ids, params))(ids)
    kernel = np.asarray(params["classifier"]["kernel"].astype(jnp.bfloat16), np.float64)
    expected = np.asarray(outputs.pooler_output, np.float64) @ kernel
    np.testing.assert_allclose(np.asarray(outputs.logits), expected, atol=1e-6)
