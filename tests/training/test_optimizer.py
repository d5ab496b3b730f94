"""The optimizers and their parameter groups, one update at a time."""

from __future__ import annotations

import functools
from typing import Any, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import initialize
from bigs_cli.recipe.groups import Optimizer, Schedule, SSMGroup
from bigs_cli.training.optimizer import (
    OPTIMIZERS,
    SSM_NAMES,
    decayed,
    learning_rate,
    make_optimizer,
    orthogonalize,
    select,
)

CONFIG = BiGSConfig(
    vocab_size=11,
    hidden_size=4,
    num_hidden_layers=2,
    intermediate_size=6,
    num_ssm=3,
    max_position_embeddings=5,
    head="sequence-classification",
)
LEAVES = dict[tuple[str, ...], np.ndarray[Any, Any]]


def leaves(tree: Any) -> LEAVES:
    return {tuple(k.key for k in path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def updated(gradient: float, freeze_ssm: bool = False, **settings: Any) -> tuple[LEAVES, LEAVES]:
    """Return the parameters before and after one step with learning rate 0.1 and all gradients `gradient`."""
    # Not zero, so that weight decay changes every parameter.
    params = jax.tree.map(lambda a: a + 0.25, initialize(CONFIG, 0))
    given: dict[str, Any] = {"learning_rate": 0.1, "beta2": 0.98, "weight_decay": 0.5, **settings}
    optimizer = make_optimizer(Optimizer(**given), freeze_ssm)
    gradients = jax.tree.map(lambda a: jnp.full_like(a, gradient), params)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params, learning_rate=jnp.float32(0.1))
    return leaves(params), leaves(optax.apply_updates(params, updates))


def moved(before: LEAVES, after: LEAVES) -> set[tuple[str, ...]]:
    return {path for path in before if not np.array_equal(before[path], after[path])}


def is_ssm(path: tuple[str, ...]) -> bool:
    return path[-1] in SSM_NAMES


def test_weight_decay_excludes_only_biases_and_layer_norm_scales() -> None:
    before, after = updated(0.0)
    kept = {path for path in before if path[-1] in ("bias", "scale")}
    assert moved(before, after) == before.keys() - kept
    assert kept == {path for path in before if not decayed(path)}
    for path in before.keys() - kept:
        np.testing.assert_allclose(after[path], before[path] * (1 - 0.1 * 0.5), rtol=1e-6)


def test_the_ssm_group_has_its_own_decay_and_learning_rate() -> None:
    before, after = updated(0.0, ssm=SSMGroup(weight_decay=0.0))
    assert not any(is_ssm(path) for path in moved(before, after))
    before, after = updated(1.0, ssm=SSMGroup(lr_multiplier=0.0))
    assert moved(before, after) == {path for path in before if not is_ssm(path)}
    _, slow = updated(1.0, ssm=SSMGroup(lr_multiplier=0.1))
    before, fast = updated(1.0)
    for path in before:
        ratio = 0.1 if is_ssm(path) else 1.0
        np.testing.assert_allclose(slow[path] - before[path], ratio * (fast[path] - before[path]), atol=1e-6)


def test_freeze_ssm_freezes_only_ssm_and_token_type_parameters() -> None:
    before, after = updated(1.0, freeze_ssm=True)
    held = before.keys() - moved(before, after)
    assert held == {path for path in before if is_ssm(path) or "token_type_embeddings" in path}
    assert {path[-1] for path in held} == SSM_NAMES | {"embedding"}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_gradients_are_clipped_by_norm(name: str) -> None:
    """Visible in the second step: the first update does not depend on the gradient norm."""
    params = initialize(CONFIG, 0)
    random = np.random.default_rng(0)
    first, direction = (
        jax.tree.map(lambda a: jnp.asarray(random.standard_normal(a.shape), jnp.float32), params) for _ in range(2)
    )

    def second(norm: float) -> LEAVES:
        gradients = jax.tree.map(lambda a: norm / optax.tree.norm(direction) * a, direction)
        given: dict[str, Any] = {"learning_rate": 0.1, "beta2": 0.98, "weight_decay": 0.0, "clip_norm": 1.0}
        optimizer = make_optimizer(Optimizer(name=cast(Any, name), **given))
        update = functools.partial(optimizer.update, learning_rate=jnp.float32(0.1))
        _, state = update(first, optimizer.init(params), params)
        return leaves(update(gradients, state, params)[0])

    clipped, at_the_limit, below = second(50.0), second(1.0), second(0.2)
    for path, update in clipped.items():
        np.testing.assert_allclose(update, at_the_limit[path], rtol=1e-4, atol=1e-7)
        assert not np.allclose(update, below[path], rtol=1e-2), path


def test_lower_layers_have_lower_learning_rates() -> None:
    plain, decayed_ = random_update(), random_update(layer_decay=0.5)
    for path, update in plain.items():
        if "layer" in path:
            expected = update * 0.5 ** np.arange(CONFIG.num_hidden_layers, 0, -1).reshape(-1, *[1] * (update.ndim - 1))
        else:
            expected = update * (0.5 ** (CONFIG.num_hidden_layers + 1) if "embeddings" in path else 1)
        np.testing.assert_allclose(decayed_[path], expected, rtol=1e-6)


def random_update(**settings: Any) -> LEAVES:
    """Return the first update with learning rate 1, without weight decay, of random gradients."""
    params = initialize(CONFIG, 0)
    random = np.random.default_rng(0)
    gradients = jax.tree.map(lambda a: jnp.asarray(random.standard_normal(a.shape), jnp.float32), params)
    given: dict[str, Any] = {"learning_rate": 1.0, "beta2": 0.98, "weight_decay": 0.0, **settings}
    optimizer = make_optimizer(Optimizer(**given))
    return leaves(optimizer.update(gradients, optimizer.init(params), params, learning_rate=jnp.float32(1))[0])


def test_muon_orthogonalizes_each_layer_of_the_kernels_and_leaves_the_rest_to_adam() -> None:
    muon, adam = random_update(name="muon"), random_update(name="adamw")
    kernels = {path for path in muon if "layer" in path and path[-1] == "kernel"}
    assert len(kernels) == 7
    for path in muon.keys() - kernels:
        np.testing.assert_array_equal(muon[path], adam[path])
    for path in kernels:
        assert len(muon[path]) == CONFIG.num_hidden_layers
        for layer in muon[path]:
            size = 0.2 * max(layer.shape) ** 0.5
            values = np.linalg.svd(layer, compute_uv=False) / size
            assert values.min() > 0.3, path
            assert values.max() < 1.3, path


@pytest.mark.parametrize("shape", [(3, 12, 12), (2, 8, 24), (2, 24, 8)])
def test_matrices_are_orthogonalized_as_in_optax(shape: tuple[int, ...]) -> None:
    matrices = jax.random.normal(jax.random.key(0), shape)
    transform = contrib.scale_by_muon(
        ns_steps=4,
        preconditioning="aol",
        nesterov=False,
        weight_dimension_numbers=lambda tree: jax.tree.map(lambda _: contrib.MuonDimensionNumbers(-2, -1), tree),
    )
    expected = transform.update({"x": matrices}, transform.init({"x": matrices}))[0]["x"]
    np.testing.assert_allclose(orthogonalize(matrices, jnp.float32), expected, atol=2e-6)
    rounded = orthogonalize(matrices, jnp.bfloat16)
    assert rounded.dtype == jnp.float32
    assert float(jnp.sqrt(jnp.square(rounded - expected).mean())) < 0.02


def test_the_updates_of_muon_are_about_as_large_as_those_of_adam() -> None:
    """Muon's are multiplied by 0.2 √max(I, O) , which gives a root mean square of about 0.2."""
    for path, update in random_update(name="muon").items():
        if "layer" in path and path[-1] == "kernel":
            assert 0.1 < np.sqrt((update**2).mean()) < 0.3, path


def test_every_optimizer_freezes() -> None:
    assert get_args(Optimizer.model_fields["name"].annotation) == tuple(OPTIMIZERS)
    for name in OPTIMIZERS:
        before, after = updated(1.0, freeze_ssm=True, name=name)
        assert before.keys() - moved(before, after) == {
            path for path in before if is_ssm(path) or "token_type_embeddings" in path
        }


@pytest.mark.parametrize(
    ("schedule", "steps", "expected"),
    [
        (Schedule(kind="cosine", warmup_steps=2, min_lr_ratio=0.1), 10, {0: 0, 1: 0.5, 2: 1, 6: 0.55, 10: 0.1}),
        (Schedule(kind="linear", warmup_fraction=0.1), 20, {0: 0, 1: 0.5, 2: 1, 11: 0.5, 20: 0, 25: 0}),
        (Schedule(kind="linear", warmup_fraction=0.1), 15, {1: 1 / 1.5, 2: 13 / 13.5}),  # between two steps
        (Schedule(kind="constant"), 5, {0: 1, 5: 1}),
        # Decay over the last 16 of 80 steps: by √¼ = ½ after a quarter of them, by √(9/16) = ¾ after 9/16.
        (Schedule(kind="wsd", warmup_steps=8), 80, {4: 0.5, 8: 1, 64: 1, 68: 0.5, 73: 0.25, 80: 0, 90: 0}),
        (Schedule(kind="wsd", decay_fraction=0.5, min_lr_ratio=0.2), 8, {0: 1, 4: 1, 5: 0.6, 8: 0.2}),
    ],
)
def test_learning_rate_schedules(schedule: Schedule, steps: int, expected: dict[int, float]) -> None:
    rate = learning_rate(schedule, 2.0, steps)
    for step, value in expected.items():
        assert float(rate(step)) == pytest.approx(2 * value, abs=1e-6)


def test_select_returns_a_mask_of_the_tree() -> None:
    marked = leaves(select(is_ssm)(initialize(CONFIG, 0)))
    assert {path[-1] for path, mark in marked.items() if mark} == SSM_NAMES
