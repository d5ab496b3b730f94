"""Matrix products with float32 sums, in the one form that each backend multiplies fast.

XLA's CPU backend (jax 0.10) multiplies bfloat16 on the bfloat16 units only if both operands lie in memory row after row
and the result is float32; else it converts both to float32, at half the speed. Where it settles on other layouts after
that choice, it refuses to run. So layouts are stated here, and `product` is the way to every large product.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jax.typing import DTypeLike


def product(a: jax.Array, b: jax.Array, *, transposed: bool = False, dtype: DTypeLike | None = None) -> jax.Array:
    """Return a `[..., K]` times b `[K, N]`, or times bᵀ for b `[N, K]` if `transposed`.

    Sums are float32; the result has `dtype`, by default that of `a`. The leading axes stay apart: one that is split
    over devices would be gathered if it were joined with another.
    """
    dtype = jnp.dtype(dtype or a.dtype)
    contracted = (((a.ndim - 1,), (1 if transposed else 0,)), ((), ()))
    multiply = partial(jax.lax.dot_general, dimension_numbers=contracted, precision=precision(a.dtype))
    if a.dtype != jnp.bfloat16 or jax.default_backend() != "cpu":
        return multiply(a, b, preferred_element_type=dtype)
    return _by_rows(multiply(_by_rows(a), _by_rows(b), preferred_element_type=jnp.float32)).astype(dtype)


def precision(dtype: DTypeLike) -> jax.lax.Precision | None:
    """Float32 means float32: on GPUs and TPUs the default would round the factors to fewer bits."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None


def linear(
    matrix: jax.Array, bias: jax.Array, x: jax.Array, transposed: bool = False, dtype: DTypeLike | None = None
) -> jax.Array:
    """Return matrix·x + bias `[O, T]` for matrix `[O, I]` (`[I, O]` if `transposed`), bias `[O]`, x `[I, T]`.

    Channels first: no product of the forward or backward pass needs x transposed in memory. The arithmetic is in the
    type of `x`, sums are float32, also those that are the gradients of the parameters; the result has `dtype`, by
    default that of `x`.
    """
    return _linear(matrix, bias, x, transposed, dtype or x.dtype)


def _linear_value(matrix: jax.Array, bias: jax.Array, x: jax.Array, transposed: bool, dtype: DTypeLike) -> jax.Array:
    factor = matrix.astype(x.dtype)
    y = product(factor.T if transposed else factor, x, dtype=jnp.float32)
    return (y + bias.astype(jnp.float32)[:, None]).astype(dtype)


def _linear_forward(
    matrix: jax.Array, bias: jax.Array, x: jax.Array, transposed: bool, dtype: DTypeLike
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    return _linear_value(matrix, bias, x, transposed, dtype), (matrix, bias, x)


def _linear_backward(
    transposed: bool, dtype: DTypeLike, saved: tuple[jax.Array, jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    matrix, bias, x = saved
    d_bias = dy.astype(jnp.float32).sum(1).astype(bias.dtype)
    dy, factor = dy.astype(x.dtype), matrix.astype(x.dtype)
    outer = (x, dy) if transposed else (dy, x)
    d_matrix = product(*outer, transposed=True, dtype=jnp.float32).astype(matrix.dtype)
    return d_matrix, d_bias, product(factor if transposed else factor.T, dy)


_linear = jax.custom_vjp(_linear_value, nondiff_argnums=(3, 4))
_linear.defvjp(_linear_forward, _linear_backward)


def last_axis_times(
    u: jax.Array, matrix: jax.Array, transposed: bool = False, dtype: DTypeLike | None = None
) -> jax.Array:
    """Return u `[..., K]` times matrix `[K, N]` (`[N, K]` if `transposed`), with types as in `linear`."""
    return _last_axis(u, matrix, transposed, dtype or u.dtype)


def _last_axis_value(u: jax.Array, matrix: jax.Array, transposed: bool, dtype: DTypeLike) -> jax.Array:
    rows = product(joined(u), matrix.astype(u.dtype), transposed=transposed, dtype=dtype)
    return rows.reshape(*u.shape[:-1], -1)


def _last_axis_forward(
    u: jax.Array, matrix: jax.Array, transposed: bool, dtype: DTypeLike
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _last_axis_value(u, matrix, transposed, dtype), (u, matrix)


def _last_axis_backward(
    transposed: bool, dtype: DTypeLike, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    u, matrix = saved
    dy = dy.astype(u.dtype)
    d_matrix = _outer(*((dy, u) if transposed else (u, dy))).astype(matrix.dtype)
    return _last_axis_value(dy, matrix, not transposed, u.dtype), d_matrix


_last_axis = jax.custom_vjp(_last_axis_value, nondiff_argnums=(2, 3))
_last_axis.defvjp(_last_axis_forward, _last_axis_backward)


def _outer(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return Σ aᵀb `[K, N]` float32 over all leading axes of a `[..., K]` and b `[..., N]`."""
    a, b = joined(a), joined(b)
    if a.ndim == 2:
        return product(a.T, b, dtype=jnp.float32)
    leading = tuple(range(a.ndim - 1))
    dimensions = ((leading, leading), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, precision(a.dtype), jnp.float32)


def joined(u: jax.Array) -> jax.Array:
    """Return u `[..., K]` as `[M, K]` on one CPU, which multiplies such a tenth faster, and as it is elsewhere."""
    alone = jax.default_backend() == "cpu" and jax.sharding.get_abstract_mesh().empty
    return u.reshape(-1, u.shape[-1]) if alone else u


def _by_rows(array: jax.Array) -> jax.Array:
    return with_layout_constraint(array, Layout(major_to_minor=tuple(range(array.ndim))))
