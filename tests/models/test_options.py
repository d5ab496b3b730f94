"""Options of the config: masked padding, post-norm, and an untied output matrix."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from bigs_cli.models import encoder
from bigs_cli.models.backends import CPU
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import initialize, make_apply, unstack_layers
from bigs_cli.recipe.groups import Compute

SIZE = {"vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 12, "num_ssm": 4}
IDS = np.random.default_rng(0).integers(5, 50, (2, 9))


def run(config, ids, params=None):
    params = initialize(config, 0) if params is None else params
    return jax.jit(make_apply(config, Compute()))(params, ids)


def test_only_unmasked_padding_changes_the_outputs():
    padded = np.pad(IDS, ((0, 0), (0, 7)))
    for masked in (True, False):
        config = BiGSConfig(
            head="sequence-classification",
            max_position_embeddings=16,
            mask_padding=masked,
            initializer_range=0.3,
            **SIZE,
        )
        difference = np.abs(run(config, IDS).logits - run(config, padded).logits).max()
        assert (difference < 1e-5) == masked


def test_post_norm_outputs_are_normalized():
    config = BiGSConfig(pre_norm=False, max_position_embeddings=16, **SIZE)
    last = np.asarray(run(config, IDS).hidden_states[-1])
    np.testing.assert_allclose(last.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(last.std(-1), 1, atol=1e-4)


def test_an_untied_model_uses_its_own_output_matrix():
    config = BiGSConfig(tie_word_embeddings=False, max_position_embeddings=16, **SIZE)
    params = initialize(config, 0)
    before = run(config, IDS, params).logits
    params["cls"]["predictions"]["decoder"]["kernel"] *= 2
    np.testing.assert_allclose(run(config, IDS, params).logits, 2 * before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("mixing", ["dense", "chunked"])
def test_stacked_scanned_and_unstacked_layers_agree(masked, mixing, monkeypatch):
    config = BiGSConfig(mask_padding=masked, max_position_embeddings=16, initializer_range=0.3, **SIZE)
    params, padded = initialize(config, 0), np.pad(IDS, ((0, 0), (0, 7)))
    compute = Compute(mixing=mixing)
    stacked = make_apply(config, compute)(params, padded)
    unstacked = make_apply(config, compute, unstacked=True)(unstack_layers(params), padded)
    monkeypatch.setattr(encoder, "backend", lambda: replace(CPU, scans_layers=True))
    scanned = make_apply(config, compute)(params, padded)
    for other in (unstacked, scanned):
        np.testing.assert_allclose(other.logits, stacked.logits, atol=1e-5 * np.abs(stacked.logits).max())
        for one, two in zip(other.hidden_states, stacked.hidden_states, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5 * np.abs(two).max())
