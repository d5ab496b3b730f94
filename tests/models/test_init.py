"""Every parameter of every head has the initial distribution in the table of `models/init.py`."""

import jax
import numpy as np
import pytest

from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import initialize, parameter_shapes
from bigs_cli.models.heads import HEADS

CONFIG = BiGSConfig(
    vocab_size=512,
    hidden_size=64,
    num_hidden_layers=3,
    intermediate_size=96,
    num_ssm=16,
    max_position_embeddings=32,
    initializer_range=0.05,
    tie_word_embeddings=False,
)


def leaves(tree):
    return {"/".join(str(key.key) for key in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("head", HEADS)
def test_initial_distribution_of_every_parameter(head):
    config = CONFIG.model_copy(update={"head": head})
    values = {name: np.asarray(value) for name, value in leaves(initialize(config, 1)).items()}
    shapes = leaves(parameter_shapes(config))
    assert {name: value.shape for name, value in values.items()} == {name: s.shape for name, s in shapes.items()}
    assert {value.dtype for value in values.values()} == {np.dtype("float32")}
    for name, value in values.items():
        last = name.rsplit("/", 1)[-1]
        if last in ("bias", "scale", "D"):
            assert (value == (last != "bias")).all(), name
        elif last == "kernel" and name.startswith(("cls", "classifier", "qa_outputs")):
            expected = value.shape[-2] ** -0.5
            assert abs(value).max() <= 2 / 0.87962566 * expected * 1.0001, name
            if value.size > 1000:
                assert abs(value.std() / expected - 1) < 0.1, name
        elif last in ("kernel", "embedding"):
            assert abs(value.std() / 0.05 - 1) < 0.1, name
            assert abs(value.mean()) < 0.01, name
        elif last == "C":
            assert abs(value.std() / 0.5**0.5 - 1) < 0.25, name
        elif last == "log_step":
            assert ((value >= np.log(0.01)) & (value <= 0)).all(), name


def test_random_streams_depend_only_on_path_layer_and_seed():
    one, again, other = (leaves(initialize(CONFIG, seed)) for seed in (1, 1, 2))
    kernels = [value for name, value in one.items() if name.endswith(("du_forward/kernel", "du_backward/kernel"))]
    layers = [layer for kernel in kernels for layer in kernel]
    assert len({layer.tobytes() for layer in layers}) == len(layers) == 6
    assert all((one[name] == again[name]).all() for name in one)
    assert (
        one["s4_bert/embeddings/word_embeddings/embedding"] != other["s4_bert/embeddings/word_embeddings/embedding"]
    ).any()
