"""Matrix products with float32 sums, in the form that is fast on each backend (`backends.py`).

Every large product goes through this file, because the layouts of operands matter on CPU.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jax.export import is_symbolic_dim
from jax.typing import DTypeLike

from bigs_cli.models.backends import backend


def matmul(a: jax.Array, b: jax.Array, *, transposed: bool = False, dtype: DTypeLike | None = None) -> jax.Array:
    """Return a `[..., K]` times b `[K, N]`, or times bᵀ for b `[N, K]` if `transposed`.

    Sums are float32; the result has `dtype`, by default that of `a`. The leading axes are not merged: merging an axis
    that is sharded over devices with another would gather it.
    """
    dtype = jnp.dtype(dtype or a.dtype)
    contracted = (((a.ndim - 1,), (1 if transposed else 0,)), ((), ()))
    if has_symbolic_size(a):
        return jnp.matmul(a, b.T if transposed else b, precision=precision(a.dtype), preferred_element_type=dtype)
    multiply = partial(jax.lax.dot_general, dimension_numbers=contracted, precision=precision(a.dtype))
    if a.dtype != jnp.bfloat16 or not backend().row_major_bfloat16:
        return multiply(a, b, preferred_element_type=dtype)
    if on_several_devices():
        return multiply(a.astype(jnp.float32), b.astype(jnp.float32)).astype(dtype)
    return _row_major(multiply(_row_major(a), _row_major(b), preferred_element_type=jnp.float32)).astype(dtype)


def batched_matmul(a: jax.Array, b: jax.Array, *, transposed: bool = False) -> jax.Array:
    """Return a `[..., M, K]` times b `[..., K, N]`, or times bᵀ for b `[..., N, K]` if `transposed`; float32."""
    batch = tuple(range(a.ndim - 2))
    contracted = ((a.ndim - 1,), (b.ndim - (1 if transposed else 2),))
    multiply = partial(jax.lax.dot_general, preferred_element_type=jnp.float32, precision=precision(a.dtype))
    if a.dtype != jnp.bfloat16 or not backend().row_major_bfloat16:
        return multiply(a, b, (contracted, (batch, batch)))
    if on_several_devices():
        return multiply(a.astype(jnp.float32), b.astype(jnp.float32), (contracted, (batch, batch)))
    return _row_major(multiply(_row_major(a), _row_major(b), (contracted, (batch, batch))))


def on_several_devices() -> bool:
    """Return whether a mesh is set. A constraint on a layout would then gather its operand on every device."""
    return not jax.sharding.get_abstract_mesh().empty


def precision(dtype: DTypeLike) -> jax.lax.Precision | None:
    """Return the precision for operands of `dtype`; by default GPUs and TPUs round float32 operands to fewer bits."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None


def has_symbolic_size(x: jax.Array) -> bool:
    """Return whether a size of x is symbolic, as in an export, which is always in float32."""
    return any(map(is_symbolic_dim, x.shape))


def dense(
    matrix: jax.Array, bias: jax.Array, x: jax.Array, transposed: bool = False, dtype: DTypeLike | None = None
) -> jax.Array:
    """Return matrix·x + bias `[O, T]` for matrix `[O, I]` (`[I, O]` if `transposed`), bias `[O]`, x `[I, T]`.

    x is channels-first, so no product of the forward or backward pass transposes it in memory. Products use the type of
    `x`; sums are float32, including the gradients of the parameters. The result has `dtype`, by default that of `x`.
    """
    return _dense(matrix, bias, x, transposed, dtype or x.dtype)


def _dense_value(matrix: jax.Array, bias: jax.Array, x: jax.Array, transposed: bool, dtype: DTypeLike) -> jax.Array:
    factor = matrix.astype(x.dtype)
    y = matmul(factor.T if transposed else factor, x, dtype=jnp.float32)
    return (y + bias.astype(jnp.float32)[:, None]).astype(dtype)


def _dense_forward(
    matrix: jax.Array, bias: jax.Array, x: jax.Array, transposed: bool, dtype: DTypeLike
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    return _dense_value(matrix, bias, x, transposed, dtype), (matrix, bias, x)


def _dense_backward(
    transposed: bool, dtype: DTypeLike, saved: tuple[jax.Array, jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    matrix, bias, x = saved
    d_bias = dy.astype(jnp.float32).sum(1).astype(bias.dtype)
    dy, factor = dy.astype(x.dtype), matrix.astype(x.dtype)
    outer = (x, dy) if transposed else (dy, x)
    d_matrix = matmul(*outer, transposed=True, dtype=jnp.float32).astype(matrix.dtype)
    return d_matrix, d_bias, matmul(factor if transposed else factor.T, dy)


_dense = jax.custom_vjp(_dense_value, nondiff_argnums=(3, 4))
_dense.defvjp(_dense_forward, _dense_backward)


def project(u: jax.Array, matrix: jax.Array, transposed: bool = False, dtype: DTypeLike | None = None) -> jax.Array:
    """Return u `[..., K]` times matrix `[K, N]` (`[N, K]` if `transposed`), with types as in `dense`."""
    return _project(u, matrix, transposed, dtype or u.dtype)


def _project_value(u: jax.Array, matrix: jax.Array, transposed: bool, dtype: DTypeLike) -> jax.Array:
    rows = matmul(flatten_rows(u), matrix.astype(u.dtype), transposed=transposed, dtype=dtype)
    return rows.reshape(*u.shape[:-1], -1)


def _project_forward(
    u: jax.Array, matrix: jax.Array, transposed: bool, dtype: DTypeLike
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _project_value(u, matrix, transposed, dtype), (u, matrix)


def _project_backward(
    transposed: bool, dtype: DTypeLike, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    u, matrix = saved
    dy = dy.astype(u.dtype)
    d_matrix = _outer(*((dy, u) if transposed else (u, dy))).astype(matrix.dtype)
    return _project_value(dy, matrix, not transposed, u.dtype), d_matrix


_project = jax.custom_vjp(_project_value, nondiff_argnums=(2, 3))
_project.defvjp(_project_forward, _project_backward)


def _outer(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return Σ aᵀb `[K, N]` float32 over all leading axes of a `[..., K]` and b `[..., N]`."""
    a, b = flatten_rows(a), flatten_rows(b)
    if a.ndim == 2:
        return matmul(a.T, b, dtype=jnp.float32)
    leading = tuple(range(a.ndim - 1))
    dimensions = ((leading, leading), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, precision(a.dtype), jnp.float32)


def flatten_rows(u: jax.Array) -> jax.Array:
    """Return u `[..., K]` as `[M, K]` on one device if its backend `merges_rows`.

    It is unchanged in an export, which may run on other backends.
    """
    merge = backend().merges_rows and not on_several_devices() and not has_symbolic_size(u)
    return u.reshape(-1, u.shape[-1]) if merge else u


def _row_major(array: jax.Array) -> jax.Array:
    return with_layout_constraint(array, Layout(major_to_minor=tuple(range(array.ndim))))
