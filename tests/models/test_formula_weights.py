"""The model against outputs of the original code for weights from a formula, without any file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bigs_cli.bench.reference import REFERENCES, make_reference_apply
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import make_apply, unstack_layers
from bigs_cli.models.losses import cross_entropy
from bigs_cli.models.published import published_shapes, to_tree
from bigs_cli.recipe.groups import Compute

DEFAULT = Compute()
IDS = np.array([[2, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 3], [2, 5, 8, 9, 3, 0, 0, 0, 0, 0, 0, 0]])
TYPES = np.zeros_like(IDS)
TYPES[0, 6:] = 1


def config(head):
    return BiGSConfig(
        head=head,
        vocab_size=50,
        hidden_size=8,
        num_hidden_layers=2,
        intermediate_size=12,
        num_ssm=4,
        max_position_embeddings=12,
        num_labels=3,
    )


def formula_weights(config):
    """0.2·sin(i + Σ bytes of the path) + base, A_im plus π·i."""
    base = {"scale": 1.0, "D": 1.0, "A_re": -0.5, "log_step": -2.0}

    def one(path, shape):
        i = np.arange(np.prod(shape))
        name = path.rsplit("/", 1)[-1]
        value = 0.2 * np.sin(i + sum(path.encode())) + base.get(name, 0.0)
        return (value + np.pi * i * (name == "A_im")).astype(np.float32).reshape(shape)

    return {path: one(path, shape) for path, shape in published_shapes(config).items()}


def outputs(head, *, compute=DEFAULT, unstacked=False, ids=IDS, types=TYPES):
    tree = to_tree(formula_weights(config(head)), config(head))
    params = unstack_layers(tree) if unstacked else tree
    return jax.jit(make_apply(config(head), compute, unstacked))(params, ids, (ids > 0).astype(np.int32), types)


@pytest.mark.parametrize(
    ("compute", "unstacked"),
    [
        (Compute(), False),
        (Compute(), True),
        (Compute(remat="layer"), False),
        (Compute(mixing="chunked"), False),
        (Compute(mixing="chunked"), True),
    ],
)
def test_masked_lm_logits_and_loss(compute, unstacked):
    logits = outputs("masked-lm", compute=compute, unstacked=unstacked).logits
    expected = [
        [0.167853, -1.289405, 0.219451, 1.001467, -0.765105, -0.829462],
        [0.685670, -1.226199, -0.316759, 1.094298, -0.255909, -1.070469],
        [1.070601, 0.166353, -1.106923, -0.068317, 0.872576, -0.236244],
    ]
    np.testing.assert_allclose(logits[0, :3, :6], expected, atol=3e-6)
    last = [1.031910, 0.251664, -1.093058, -0.157662, 0.884710, -0.150429]
    np.testing.assert_allclose(logits[1, 4, :6], last, atol=3e-6)
    assert float(logits.sum()) == pytest.approx(0.67798, abs=1e-4)
    rows, places, labels = np.array([(0, 2, 11), (0, 5, 19), (0, 9, 37), (1, 2, 8)]).T
    loss = cross_entropy(logits[rows, places], jnp.asarray(labels))[0].mean()
    assert float(loss) == pytest.approx(3.792815, abs=2e-6)


@pytest.mark.parametrize("mixer", REFERENCES)
def test_the_benchmark_reference_gives_the_same_logits(mixer):
    params = unstack_layers(to_tree(formula_weights(config("masked-lm")), config("masked-lm")))
    apply = jax.jit(make_reference_apply(config("masked-lm"), REFERENCES[mixer]))
    logits = apply(params, IDS, (IDS > 0).astype(np.int32), TYPES).logits
    np.testing.assert_allclose(logits, outputs("masked-lm").logits, atol=3e-6)


def test_classification_logits():
    expected = [[0.102591, -0.069948, -0.178177], [0.121165, -0.056144, -0.181835]]
    np.testing.assert_allclose(outputs("sequence-classification").logits, expected, atol=1e-6)


def test_bfloat16_is_close_to_float32():
    full = outputs("masked-lm").logits
    half = outputs("masked-lm", compute=Compute(dtype="bfloat16")).logits
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, full, atol=0.06)


def test_shorter_inputs_run_and_longer_inputs_are_rejected():
    assert outputs("masked-lm", ids=IDS[:, :7], types=TYPES[:, :7]).logits.shape == (2, 7, 50)
    with pytest.raises(ValueError, match=r"13 tokens.*at most 12"):
        outputs("masked-lm", ids=np.ones((1, 13), int), types=np.zeros((1, 13), int))
