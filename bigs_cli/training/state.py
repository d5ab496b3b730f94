"""What a training step takes and gives: parameters, optimizer state, step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bigs_cli.model.functional import Parameters

Metrics = dict[str, jax.Array]
# (params, batch, key of the step, part of the batch) → (summed loss, {"weight": what to divide by, further sums})
SummedLoss = Callable[[Parameters, Any, jax.Array, Any], tuple[jax.Array, Metrics]]


class TrainState(NamedTuple):
    """Parameters (float32, layers stacked), the optimizer's state, and the steps done (int32)."""

    params: Parameters
    optimizer: Any
    step: jax.Array


def new_state(params: Parameters, optimizer: optax.GradientTransformation) -> TrainState:
    """Return the state before the first step."""
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def make_step(
    loss: SummedLoss,
    optimizer: optax.GradientTransformation,
    rate: optax.Schedule,
    seed: int,
    accumulate: int = 1,
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """Return the compiled `step(state, batch) -> (state, metrics)`; the state given is consumed.

    The gradient is that of the mean over the whole batch, whether its rows are taken at once or in `accumulate`
    parts. Randomness is keyed by (seed, step, part) and so does not depend on devices. `metrics`: loss, grad_norm,
    learning_rate, and each further sum the loss gives, divided by its weight.
    """
    gradient_of = jax.value_and_grad(loss, has_aux=True)

    def gradient(params: Parameters, batch: Any, key: jax.Array) -> tuple[jax.Array, Metrics, Parameters]:
        if accumulate == 1:
            (total, sums), gradients = gradient_of(params, batch, key, 0)
            return total, sums, gradients

        def add(carry: Any, part: Any) -> tuple[Any, None]:
            index, rows = part
            (total, sums), gradients = gradient_of(params, rows, key, index)
            return jax.tree.map(jnp.add, carry, (total, sums, gradients)), None

        parts = jax.tree.map(lambda a: a.reshape(accumulate, -1, *a.shape[1:]), batch)
        first = jax.tree.map(lambda a: a[0], parts)
        shapes = jax.eval_shape(gradient_of, params, first, key, 0)
        zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (*shapes[0], shapes[1]))
        return jax.lax.scan(add, zero, (jnp.arange(accumulate), parts))[0]

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        total, sums, gradients = gradient(state.params, batch, key)
        weight = jnp.maximum(sums.pop("weight"), 1e-9)
        gradients = jax.tree.map(lambda g: g / weight, gradients)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
        metrics = {
            "loss": total / weight,
            **{name: value / weight for name, value in sums.items()},
            "grad_norm": optax.tree.norm(gradients),
            "learning_rate": rate(state.step),
        }
        return TrainState(optax.apply_updates(state.params, updates), optimizer_state, state.step + 1), metrics  # pyright: ignore[reportArgumentType]

    return jax.jit(step, donate_argnums=0)
