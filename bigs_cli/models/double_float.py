"""Arithmetic with about 48 bits: a number is an unevaluated sum of two float32 values, high and low.

A kernel of length L multiplies the phase s·Im(A) by up to L. At L = 4096 a single float32 rounding of the phase grows
to an error of 1e-3 of a slowly decaying kernel; with two floats the error stays below 1e-7. The algorithms are those of
Dekker and Knuth (T. J. Dekker, "A floating-point technique for extending the available precision", 1971). Float64
would also suffice, but TPUs do not support it and JAX disables it by default.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Double(NamedTuple):
    """The number `high + low`, with |low| at most half a unit in the last place of `high`."""

    high: jax.Array
    low: jax.Array


def _two_sum(a: jax.Array, b: jax.Array) -> Double:
    total = a + b
    b_seen = total - a
    return Double(total, (a - (total - b_seen)) + (b - b_seen))


def _halves(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Unlike Dekker's multiplication by 4097, truncating the bits is safe if the compiler fuses multiply and add.
    bits = jax.lax.bitcast_convert_type(a, jnp.uint32) & jnp.uint32(0xFFFFF000)
    high = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return high, a - high


def two_product(a: jax.Array, b: jax.Array) -> Double:
    """Return a·b exactly."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return Double(product, error)


def constant(value: float) -> Double:
    """Return the Python float `value` as a `Double`."""
    high = np.float32(value)
    return Double(jnp.asarray(high), jnp.asarray(np.float32(value - float(high))))


def add(a: Double, b: Double) -> Double:
    """Return a + b."""
    total = _two_sum(a.high, b.high)
    return _two_sum(total.high, total.low + a.low + b.low)


def multiply(a: Double, b: Double) -> Double:
    """Return a·b."""
    product = two_product(a.high, b.high)
    return _two_sum(product.high, product.low + (a.high * b.low + a.low * b.high))


def exp(x: jax.Array) -> Double:
    """Return eˣ for float32 |x| ≤ 10 with relative error 1e-13: a Taylor series in x/16, squared four times."""
    y = Double(x / 16, jnp.zeros_like(x))
    result = constant(1 / math.factorial(14))
    for k in range(13, -1, -1):
        result = add(multiply(result, y), constant(1 / math.factorial(k)))
    for _ in range(4):
        result = multiply(result, result)
    return result


def fraction_of_multiple(count: jax.Array, x: Double) -> jax.Array:
    """Return `count`·x minus its nearest integer, in [−½, ½], for integral float32 `count` below 2²⁴."""
    product = two_product(count, x.high)
    rest = product.low + count * x.low
    return (product.high - jnp.round(product.high)) + rest
