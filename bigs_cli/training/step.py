"""What a training step takes and gives: parameters, optimizer state, step, and what was skipped."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from bigs_cli.models.functional import Parameters

Metrics = dict[str, jax.Array]
# (params, batch, key of the step, part of the batch) → (summed loss, {"weight": what to divide by, further sums})
SummedLoss = Callable[[Parameters, Any, jax.Array, Any], tuple[jax.Array, Metrics]]


class TrainState(NamedTuple):
    """Parameters (float32, layers stacked), the optimizer's state, the steps done (int32), and what they left.

    `ema` is the moving average of the parameters, None if none is kept. `skipped` of the steps done (int32) had a loss
    or gradient that was not finite and changed nothing, the last `skipped_in_a_row` of them one after the other.
    """

    params: Parameters
    optimizer: Any
    step: jax.Array
    ema: Parameters | None
    skipped: jax.Array
    skipped_in_a_row: jax.Array

    @property
    def averaged(self) -> Parameters:
        """The parameters to evaluate and to use: their moving average if one is kept, else themselves."""
        return self.params if self.ema is None else self.ema


def new_state(params: Parameters, optimizer: optax.GradientTransformation, average: bool = False) -> TrainState:
    """Return the state before the first step, with a moving average of the parameters if `average`."""
    ema = jax.tree.map(jnp.copy, params) if average else None  # A buffer of its own: a step consumes both.
    return TrainState(params, optimizer.init(params), _zero(), ema, _zero(), _zero())


def _zero() -> jax.Array:
    return jnp.zeros((), jnp.int32)


def make_step(
    loss: SummedLoss,
    optimizer: optax.GradientTransformation,
    rate: optax.Schedule,
    seed: int,
    gradient_accumulation_steps: int = 1,
    *,
    ema: float | None = None,
    stop_after: int = 10,
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """Return the compiled `step(state, batch) -> (state, metrics)`; the state given is consumed.

    The gradient is that of the mean over the whole batch, whether its rows are computed at once or in
    `gradient_accumulation_steps` parts. Randomness is keyed by (seed, step, part) and so does not depend on devices.
    `metrics`: loss, grad_norm (before clipping), learning_rate, skipped, skipped_in_a_row, and each further sum the
    loss gives, divided by its weight.

    A step whose loss or gradient is not finite counts as done, so that data and masks go on, and changes nothing else:
    optimizer, learning rate and average are where they were. After `stop_after` such steps in a row all further
    ones are skipped, so that a loop which looks later finds the state as it was.

    With `ema`, the average moves by 1 − d of the way to the parameters after a step, d = min(ema, (1 + t) / (10 + t))
    with t steps taken: initial values fade early, as with `num_updates` in TensorFlow's ExponentialMovingAverage.
    """
    gradient_of, accumulate = jax.value_and_grad(loss, has_aux=True), gradient_accumulation_steps

    def gradient(params: Parameters, batch: Any, key: jax.Array) -> tuple[jax.Array, Metrics, Parameters]:
        if accumulate == 1:
            (total, sums), gradients = gradient_of(params, batch, key, 0)
            return total, sums, gradients

        def add(carry: Any, part: Any) -> tuple[Any, None]:
            index, rows = part
            (total, sums), gradients = gradient_of(params, rows, key, index)
            return jax.tree.map(jnp.add, carry, (total, sums, gradients)), None

        # Every accumulate-th row, not runs of them: each device then has its share of every part where it is.
        parts = jax.tree.map(lambda a: a.reshape(-1, accumulate, *a.shape[1:]).swapaxes(0, 1), batch)
        first = jax.tree.map(lambda a: a[0], parts)
        shapes = jax.eval_shape(gradient_of, params, first, key, 0)
        zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (*shapes[0], shapes[1]))
        return jax.lax.scan(add, zero, (jnp.arange(accumulate), parts))[0]

    def step(state: TrainState, batch: Any, seed: jax.Array) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        total, sums, gradients = gradient(state.params, batch, key)
        weight = jnp.maximum(sums.pop("weight"), 1e-9)
        # Times the inverse: a division would be a pass over the gradients of its own, for every use of them.
        mean, norm, inverse = total / weight, optax.tree.norm(gradients) / weight, 1 / weight
        gradients = jax.tree.map(lambda g: g * inverse, gradients)
        taken = state.step - state.skipped
        good = jnp.isfinite(mean) & jnp.isfinite(norm) & (state.skipped_in_a_row < stop_after)

        def if_good(new: Any, old: Any) -> Any:
            # Chosen value by value: the compiler makes that part of the update, while a branch would copy the state.
            return jax.tree.map(lambda n, o: jnp.where(good, n, o), new, old)

        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
        params = if_good(optax.apply_updates(state.params, updates), state.params)
        average = state.ema
        if ema is not None:
            kept = jnp.minimum(ema, (1 + taken) / (10 + taken))
            average = if_good(jax.tree.map(lambda a, p: a + (1 - kept) * (p - a), state.ema, params), state.ema)
        skipped = state.skipped + ~good
        in_a_row = jnp.where(good, 0, state.skipped_in_a_row + 1)
        metrics = {
            "loss": mean,
            **{name: value / weight for name, value in sums.items()},
            "grad_norm": norm,
            "learning_rate": rate(taken),
            "skipped": skipped,
            "skipped_in_a_row": in_a_row,
        }
        optimizer_state = if_good(optimizer_state, state.optimizer)
        return TrainState(params, optimizer_state, state.step + 1, average, skipped, in_a_row), metrics

    @functools.cache
    def compiled(places: tuple[Any, ...], structure: Any) -> Any:
        # The state stays where it was: the compiler would move parts of it, and the next step be compiled for that.
        return jax.jit(step, donate_argnums=0, out_shardings=(structure.unflatten(places), None))

    def run(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        leaves, structure = jax.tree.flatten(state)
        # What was put nowhere in particular stays so: given a place, it would have the next step compiled anew.
        places = tuple(leaf.sharding if isinstance(leaf, jax.Array) and leaf.committed else None for leaf in leaves)
        mesh = next((place.mesh for place in places if isinstance(place, NamedSharding)), None)
        # With the mesh set, the model keeps its activations split by rows (`models/batch_sharding.py`).
        with jax.set_mesh(mesh) if isinstance(mesh, Mesh) and mesh.size > 1 else contextlib.nullcontext():
            # The seed is an argument, not a constant: runs that differ in nothing else share what is compiled.
            return compiled(places, structure)(state, batch, np.uint32(seed))

    return run
