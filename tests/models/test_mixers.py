"""Every mixer matches the recurrence: values and gradients, both directions, any length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bigs_cli.bench.reference import ALL_MIXERS
from bigs_cli.models import mixers
from bigs_cli.models.backends import backend
from bigs_cli.models.ssm import SSMParameters, convolution_kernel, discretize, initial_state_matrix

N, H, B = 8, 6, 2


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    A_re, A_im = initial_state_matrix("hippo", N)
    return SSMParameters(
        jnp.asarray(A_re),
        jnp.asarray(A_im),
        jnp.asarray(rng.normal(0, 0.5**0.5, (N, 2)), jnp.float32),
        jnp.asarray([0.7], jnp.float32),
        jnp.asarray([-2.5], jnp.float32),
    )


def mixed(name, L, reverse, ssm, u):
    mixer = ALL_MIXERS[name]
    return mixer.mix(mixer.operands(discretize(ssm), L), u, reverse)


def close(actual, expected, tolerance):
    scale = np.abs(expected).max() + 1e-30
    assert np.abs(np.asarray(actual) - np.asarray(expected)).max() / scale < tolerance


@pytest.mark.parametrize("L", [1, 5, 16, 25, 39])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", [name for name in ALL_MIXERS if name != "recurrence"])
def test_mixers_match_the_recurrence(name, reverse, L, monkeypatch):
    monkeypatch.setattr(mixers, "CHUNK", 16)
    monkeypatch.setattr(mixers, "GROUP", 2)  # 39 tokens are two groups
    rng = np.random.default_rng(L)
    u, weight = (jnp.asarray(rng.normal(size=(B, H, L)), jnp.float32) for _ in range(2))

    def loss(name, ssm, u):
        y = mixed(name, L, reverse, ssm, u)
        return (y * weight).sum(), y

    both = jax.jit(jax.value_and_grad(loss, argnums=(1, 2), has_aux=True), static_argnums=0)
    (_, y), gradients = both(name, parameters(), u)
    (_, expected), expected_gradients = both("recurrence", parameters(), u)
    close(y, expected, 1e-5)
    mixer = ALL_MIXERS[name]
    operands = mixer.operands(discretize(parameters()), L)
    last = mixers.mix_channels_last(mixer, operands, u.swapaxes(1, 2), reverse)
    close(last.swapaxes(1, 2), expected, 1e-5)
    for actual, wanted in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True):
        close(actual, wanted, 1e-5)


@pytest.mark.parametrize("segments", [2, 3, 12])
@pytest.mark.parametrize("reverse", [False, True])
def test_segments_of_rows_match_whole_rows(reverse, segments, monkeypatch):
    monkeypatch.setattr(mixers, "CHUNK", 16)
    L = 72  # 36, 24 or 6 tokens per segment, in chunks of 12, 12 and 6
    u = jnp.asarray(np.random.default_rng(0).normal(size=(H, B, L)), jnp.float32)
    ssm = discretize(parameters())
    mixer = mixers.choose("auto", L, segments)
    parts = u.reshape(H, B, segments, -1).swapaxes(1, 2)
    y = mixer.mix(mixer.operands(ssm, L), parts, reverse).swapaxes(1, 2).reshape(H, B, L)
    close(y, mixed("recurrence", L, reverse, parameters(), u), 1e-5)


def test_the_recurrence_matches_its_definition():
    """Compare with the equation in NumPy and float64."""
    L = 20
    ssm = parameters()
    u = np.random.default_rng(1).normal(size=(B, H, L)).astype(np.float32)
    A = np.asarray(ssm.A_re, np.float64) + 1j * np.asarray(ssm.A_im, np.float64)
    C = np.asarray(ssm.C, np.float64) @ [1, 1j]
    s = np.exp(np.float64(ssm.log_step[0]))
    K = np.array([(C * (np.exp(s * A) - 1) / A * np.exp(l * s * A)).sum().real for l in range(L)])
    close(convolution_kernel(discretize(ssm), L), K, 1e-6)
    forward = np.stack([sum(K[l - j] * u[..., j] for j in range(l + 1)) + 0.7 * u[..., l] for l in range(L)], -1)
    backward = np.stack([sum(K[j - l] * u[..., j] for j in range(l, L)) + 0.7 * u[..., l] for l in range(L)], -1)
    close(mixed("recurrence", L, False, ssm, jnp.asarray(u)), forward, 1e-5)
    close(mixed("recurrence", L, True, ssm, jnp.asarray(u)), backward, 1e-5)


def test_auto_depends_on_length_and_unknown_names_are_rejected():
    assert mixers.choose("auto", backend().longest_dense) is mixers.MIXERS["dense"]
    assert mixers.choose("auto", backend().longest_dense + 1) is mixers.MIXERS["chunked"]
    with pytest.raises(ValueError, match="dense"):
        mixers.choose("attention", 8)


def test_stacked_operands_match_those_of_each_layer():
    """Operands of all layers at once, with leading axes, equal those of one layer at a time."""
    models = [parameters(seed) for seed in range(3)]
    stacked = SSMParameters(*map(jnp.stack, zip(*models, strict=True)))
    for mixer in ALL_MIXERS.values():
        together = mixer.operands(discretize(stacked), 10)
        for i, model in enumerate(models):
            alone = mixer.operands(discretize(model), 10)
            jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=2e-6), together, alone)


def test_recipes_accept_every_mixer():
    from typing import get_args

    from bigs_cli.recipe.groups import Compute

    assert set(get_args(Compute.model_fields["mixing"].annotation)) == {"auto", *mixers.MIXERS}
