"""The training step: its state, and the compiled function that maps a state and a batch to the next state."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from bigs_cli.models.functional import Parameters, memoize

Metrics = dict[str, jax.Array]
# (params, batch, key of the step, index of the micro-batch, *fixed) → (summed loss, {"weight": the divisor, …: further
# sums}); `fixed` are the parameters of further models, which are not trained.
SummedLoss = Callable[..., tuple[jax.Array, Metrics]]


class TrainState(NamedTuple):
    """Parameters (float32, layers stacked), optimizer state, step count, moving average and counts of skipped steps.

    `step` (int32) counts all steps, `skipped` (int32) those whose loss or gradient was not finite, and
    `skipped_in_a_row` (int32) how many of the most recent steps in a row were skipped. `ema` is the exponential
    moving average of the parameters, or None.
    """

    params: Parameters
    optimizer: Any
    step: jax.Array
    ema: Parameters | None
    skipped: jax.Array
    skipped_in_a_row: jax.Array

    @property
    def ema_params(self) -> Parameters:
        """The parameters to evaluate and to export: the moving average if there is one, else `params`."""
        return self.params if self.ema is None else self.ema


@dataclass(frozen=True)
class StepOptions:
    """Options of `make_step`: micro-batches per step, decay rate of the moving average, limit of skipped steps."""

    gradient_accumulation_steps: int = 1
    ema: float | None = None
    stop_after_nonfinite: int = 10


def new_state(params: Parameters, optimizer: optax.GradientTransformation, with_ema: bool = False) -> TrainState:
    """Return the state before the first step, with a moving average of the parameters if `with_ema`."""
    ema = jax.tree.map(jnp.copy, params) if with_ema else None  # A copy: a step donates both buffers.
    step, skipped, in_a_row = (jnp.zeros((), jnp.int32) for _ in range(3))
    return TrainState(params, optimizer.init(params), step, ema, skipped, in_a_row)


def make_step(
    loss: SummedLoss,
    optimizer: optax.GradientTransformationExtraArgs,
    lr_schedule: optax.Schedule,
    seed: int,
    options: StepOptions = StepOptions(),
    fixed: tuple[Parameters, ...] = (),
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """Return the compiled `step(state, batch) -> (state, metrics)`, which donates the buffers of `state`.

    `lr_schedule` is a pytree, such as `LearningRate`, and `fixed` are further arguments of the loss. The gradient is
    that of the mean over the whole batch, with or without gradient accumulation. Random keys derive from (seed, step,
    micro-batch) and therefore do not depend on the devices. `metrics` are loss, grad_norm (before clipping),
    learning_rate, skipped, skipped_in_a_row, and each further sum of the loss divided by its weight.

    A step whose loss or gradient is not finite is skipped: the step count, and with it the data and masks, advances;
    the parameters, optimizer state, learning rate and moving average do not. After `stop_after_nonfinite` consecutive
    skipped steps every further step is skipped too, so that a training loop that checks later finds the state
    unchanged.

    With `ema`, a step updates average ← d·average + (1 − d)·params, d = min(ema, (1 + t) / (10 + t)), where t is the
    number of steps taken. Initial values fade early, as with `num_updates` in TensorFlow's ExponentialMovingAverage.
    """
    compiled = _compiled_step(loss, optimizer, options)

    def run(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        # An uncommitted array gets no output sharding: that would commit it, and the next step would be compiled again.
        leaves, structure = jax.tree.flatten(state)
        shardings = tuple(leaf.sharding if isinstance(leaf, jax.Array) and leaf.committed else None for leaf in leaves)
        with _mesh_of(shardings):
            # The seed and the schedule are arguments, not constants: runs that differ only in them share the compiled
            # function.
            return compiled(shardings, structure)(state, batch, np.uint32(seed), lr_schedule, fixed)

    return run


def lower_step(
    loss: SummedLoss,
    optimizer: optax.GradientTransformationExtraArgs,
    lr_schedule: optax.Schedule,
    seed: int,
    options: StepOptions,
    state: TrainState,
    batch: Any,
) -> jax.stages.Lowered:
    """Return the step of `make_step`, lowered for a state and a batch of `ShapeDtypeStruct`s with shardings."""
    leaves, structure = jax.tree.flatten(state)
    shardings = tuple(leaf.sharding for leaf in leaves)
    with _mesh_of(shardings):
        step = _compiled_step(loss, optimizer, options)(shardings, structure)
        return step.lower(state, batch, np.uint32(seed), lr_schedule, ())


def _mesh_of(shardings: Iterable[Any]) -> AbstractContextManager[Any]:
    """Return a context in which the mesh is set, so that the model shards its activations (`models/sharding.py`)."""
    mesh = next((sharding.mesh for sharding in shardings if isinstance(sharding, NamedSharding)), None)
    return jax.set_mesh(mesh) if isinstance(mesh, Mesh) and mesh.size > 1 else contextlib.nullcontext()


@memoize
def _compiled_step(
    loss: SummedLoss, optimizer: optax.GradientTransformationExtraArgs, options: StepOptions
) -> Callable[[tuple[Any, ...], Any], Any]:
    """Return a function from the shardings and the structure of a state to the compiled step."""
    gradient_of, accumulate = jax.value_and_grad(loss, has_aux=True), options.gradient_accumulation_steps
    ema, stop_after = options.ema, options.stop_after_nonfinite

    def gradient(
        params: Parameters, batch: Any, key: jax.Array, fixed: tuple[Parameters, ...]
    ) -> tuple[jax.Array, Metrics, Parameters]:
        if accumulate == 1:
            (total, sums), gradients = gradient_of(params, batch, key, 0, *fixed)
            return total, sums, gradients

        def add(carry: Any, part: Any) -> tuple[Any, None]:
            index, rows = part
            (total, sums), gradients = gradient_of(params, rows, key, index, *fixed)
            return jax.tree.map(jnp.add, carry, (total, sums, gradients)), None

        # A micro-batch takes every accumulate-th row, not consecutive rows: no row then moves to another device.
        parts = jax.tree.map(lambda a: a.reshape(-1, accumulate, *a.shape[1:]).swapaxes(0, 1), batch)
        first = jax.tree.map(lambda a: a[0], parts)
        shapes = jax.eval_shape(gradient_of, params, first, key, 0, *fixed)
        zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (*shapes[0], shapes[1]))
        return jax.lax.scan(add, zero, (jnp.arange(accumulate), parts))[0]

    def step(
        state: TrainState, batch: Any, seed: jax.Array, lr_schedule: optax.Schedule, fixed: tuple[Parameters, ...]
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        total, sums, gradients = gradient(state.params, batch, key, fixed)
        weight = jnp.maximum(sums.pop("weight"), 1e-9)
        # Multiply by the inverse: a division would add a pass over the gradients for every use of them.
        mean, norm, inverse = total / weight, optax.tree.norm(gradients) / weight, 1 / weight
        gradients = jax.tree.map(lambda g: g * inverse, gradients)
        taken = state.step - state.skipped
        learning_rate = lr_schedule(taken)
        good = jnp.isfinite(mean) & jnp.isfinite(norm) & (state.skipped_in_a_row < stop_after)

        def if_good(new: Any, old: Any) -> Any:
            # The compiler fuses an elementwise choice into the update; a branch would copy the state.
            return jax.tree.map(lambda n, o: jnp.where(good, n, o), new, old)

        updates, optimizer_state = optimizer.update(
            gradients, state.optimizer, state.params, learning_rate=learning_rate
        )
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
            "learning_rate": learning_rate,
            "skipped": skipped,
            "skipped_in_a_row": in_a_row,
        }
        optimizer_state = if_good(optimizer_state, state.optimizer)
        return TrainState(params, optimizer_state, state.step + 1, average, skipped, in_a_row), metrics

    @functools.cache
    def compiled(shardings: tuple[Any, ...], structure: Any) -> Any:
        # Without output shardings the compiler may move parts of the state, and the next step would be compiled again.
        return jax.jit(step, donate_argnums=0, out_shardings=(structure.unflatten(shardings), None))

    return compiled
