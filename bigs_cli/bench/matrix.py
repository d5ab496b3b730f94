"""How fast this machine multiplies matrices: what all else is a share of. Run as a script, it measures one type."""

from __future__ import annotations

import sys
import time

import jax
import jax.numpy as jnp

_SECONDS = 1.0


def matrix_rate(dtype: str) -> float:
    """Return the operations per second (2 n³ a product) of large square products in `dtype` on the first device."""
    n = 2048 if jax.default_backend() == "cpu" else 8192
    a = jnp.full((n, n), 0.5, dtype)
    product = jax.jit(lambda a: jnp.matmul(a, a, preferred_element_type=dtype))
    product(a).block_until_ready()
    best, ends = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < ends:
        began = time.perf_counter()
        product(a).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return 2 * n**3 / best


if __name__ == "__main__":
    print(matrix_rate(sys.argv[1]))
