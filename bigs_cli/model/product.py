"""Matrix products with float32 sums, in the one form that each backend multiplies fast.

XLA's CPU backend multiplies bfloat16 on the bfloat16 units only if both operands lie in memory row after row and
the result is float32; else it converts both to float32, at half the speed (jax 0.10: `bigs bench train` shows it), and
where layouts are settled after that choice it even refuses to run. So the layouts are stated here, and `product` is the
only way to a bfloat16 product.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint


def product(a: jax.Array, b: jax.Array, *, transposed: bool = False, dtype: jax.typing.DTypeLike | None = None) -> jax.Array:
    """Return a `[M, K]` times b `[K, N]`, or times bᵀ for b `[N, K]` if `transposed`.

    Sums are float32; the result has `dtype`, by default that of `a`.
    """
    dtype = jnp.dtype(dtype or a.dtype)
    contracted = (((1,), (1 if transposed else 0,)), ((), ()))
    multiply = partial(jax.lax.dot_general, dimension_numbers=contracted, precision=precision(a.dtype))
    if not _needs_rows(a.dtype):
        return multiply(a, b, preferred_element_type=dtype)
    return _by_rows(multiply(_by_rows(a), _by_rows(b), preferred_element_type=jnp.float32)).astype(dtype)


def precision(dtype: jax.typing.DTypeLike) -> jax.lax.Precision | None:
    """Float32 means float32: on GPUs and TPUs the default would round the factors to fewer bits."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def linear(
    matrix: jax.Array,
    bias: jax.Array,
    x: jax.Array,
    transposed: bool = False,
    dtype: jax.typing.DTypeLike | None = None,
) -> jax.Array:
    """Return matrix·x + bias `[O, T]` for matrix `[O, I]` (`[I, O]` if `transposed`), bias `[O]`, x `[I, T]`.

    Channels first: no product of the forward or backward pass needs x transposed in memory. The arithmetic is in the
    type of `x`, sums are float32, also those that are the gradients of the parameters; the result has `dtype`, by
    default that of `x`.
    """
    return _linear_forward(matrix, bias, x, transposed, dtype)[0]


def _linear_forward(
    matrix: jax.Array, bias: jax.Array, x: jax.Array, transposed: bool, dtype: jax.typing.DTypeLike | None
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    factor = matrix.astype(x.dtype)
    y = product(factor.T if transposed else factor, x, dtype=jnp.float32) + bias.astype(jnp.float32)[:, None]
    return y.astype(dtype or x.dtype), (matrix, bias, x)


def _linear_backward(
    transposed: bool, dtype: jax.typing.DTypeLike | None, saved: tuple[jax.Array, ...], dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    matrix, bias, x = saved
    d_bias = dy.astype(jnp.float32).sum(1).astype(bias.dtype)
    dy, factor = dy.astype(x.dtype), matrix.astype(x.dtype)
    outer = (x, dy) if transposed else (dy, x)
    d_matrix = product(*outer, transposed=True, dtype=jnp.float32).astype(matrix.dtype)
    return d_matrix, d_bias, product(factor if transposed else factor.T, dy)


linear.defvjp(_linear_forward, _linear_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def last_axis_times(
    u: jax.Array, matrix: jax.Array, transposed: bool = False, dtype: jax.typing.DTypeLike | None = None
) -> jax.Array:
    """Return u `[..., K]` times matrix `[K, N]` (`[N, K]` if `transposed`), as `linear` computes."""
    rows = product(u.reshape(-1, u.shape[-1]), matrix.astype(u.dtype), transposed=transposed, dtype=dtype)
    return rows.reshape(*u.shape[:-1], -1)


def _last_axis_forward(
    u: jax.Array, matrix: jax.Array, transposed: bool, dtype: jax.typing.DTypeLike | None
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return last_axis_times(u, matrix, transposed, dtype), (u, matrix)


def _last_axis_backward(
    transposed: bool, dtype: jax.typing.DTypeLike | None, saved: tuple[jax.Array, ...], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    u, matrix = saved
    dy = dy.astype(u.dtype)
    left, right = (dy, u) if transposed else (u, dy)
    left, right = (factor.reshape(-1, factor.shape[-1]) for factor in (left, right))
    d_matrix = product(left.T, right, dtype=jnp.float32)
    return last_axis_times(dy, matrix, not transposed), d_matrix.astype(matrix.dtype)


last_axis_times.defvjp(_last_axis_forward, _last_axis_backward)


def _needs_rows(dtype: jax.typing.DTypeLike) -> bool:
    return dtype == jnp.bfloat16 and jax.default_backend() == "cpu"


def _by_rows(matrix: jax.Array) -> jax.Array:
    return with_layout_constraint(matrix, Layout(major_to_minor=(0, 1)))
