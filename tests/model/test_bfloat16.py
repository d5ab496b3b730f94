"""Arithmetic in bfloat16 gives the gradients of float32: what is summed over all tokens is summed in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bigs_cli.model.functional import initialize, make_apply
from bigs_cli.recipe.config import BiGSConfig
from bigs_cli.recipe.schema import Compute

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


def gradients(compute):
    """Of the mean loss over all tokens of a text of few words, each a thousand times."""
    rng = np.random.default_rng(0)
    ids = jnp.asarray(rng.integers(1, WORDS, (B, L)), jnp.int32)
    labels = ids % 2
    apply = make_apply(CONFIG, compute)

    def loss(params):
        logits = apply(params, ids, key=jax.random.key(0)).logits
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1).mean()

    tree = jax.jit(jax.grad(loss))(initialize(CONFIG, 0))
    # An SSM's five are compared as one: the step's gradient is a single number, which may all but cancel.
    layer = tree["s4_bert"]["encoder"]["layer"]
    ssms = {name: np.concatenate([np.ravel(leaf) for leaf in layer.pop(name).values()]) for name in ("fs4", "bs4")}
    return ssms | {jax.tree_util.keystr(path): np.asarray(a) for path, a in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("layout", ["channels", "tokens", "rows"])
def test_gradients_of_all_parameters(layout):
    exact = gradients(Compute(layout=layout))
    rounded = gradients(Compute(layout=layout, dtype="bfloat16"))
    errors = {name: np.linalg.norm(rounded[name] - a) / np.linalg.norm(a) for name, a in exact.items()}
    assert len(errors) > 25
    assert not {name: error for name, error in errors.items() if error > 0.04}
