"""Arithmetic with about 48 bits: a number is an unevaluated sum of two float32 values, high and low.

A kernel of length L multiplies the phase s·Im(A) by up to L. At L = 4096 a single float32 rounding of the phase grows
to an error of 1e-3 in a slowly decaying kernel; with two floats the error stays below 1e-7. The algorithms are those of
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


def _quick_two_sum(a: jax.Array, b: jax.Array) -> Double:
    """Return a + b exactly, where |a| ≥ |b|."""
    total = a + b
    return Double(total, b - (total - a))


def _halves(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Split a into two numbers of 12 bits, whose products are exact."""
    bits = jax.lax.bitcast_convert_type(a, jnp.uint32) & jnp.uint32(0xFFFFF000)
    high = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return high, a - high


def two_product(a: jax.Array, b: jax.Array) -> Double:
    """Return a·b to 48 bits.

    Only products of halves occur. They are exact, so a compiler that fuses multiplication and addition changes nothing;
    Dekker's a·b − a_high·b_high would lose its low part where a·b is fused into the difference.
    """
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    cross = _two_sum(a_high * b_low, a_low * b_high)
    total = _quick_two_sum(a_high * b_high, cross.high)
    return Double(total.high, total.low + (cross.low + a_low * b_low))


def constant(value: float) -> Double:
    """Return the Python float `value` as a `Double`."""
    high = np.float32(value)
    return Double(jnp.asarray(high), jnp.asarray(np.float32(value - float(high))))


def add(a: Double, b: Double) -> Double:
    """Return a + b."""
    total = _two_sum(a.high, b.high)
    return _quick_two_sum(total.high, total.low + a.low + b.low)


def multiply(a: Double, b: Double) -> Double:
    """Return a·b."""
    product = two_product(a.high, b.high)
    return _quick_two_sum(product.high, product.low + (a.high * b.low + a.low * b.high))


def square(a: Double) -> Double:
    """Return a²."""
    high, low = _halves(a.high)
    total = _quick_two_sum(high * high, 2 * (high * low))
    return _quick_two_sum(total.high, total.low + (low * low + 2 * (a.high * a.low)))


def exp(x: jax.Array) -> Double:
    """Return eˣ of a float32 x with |x| ≤ 10, to a relative error of 2e-13.

    It is a Taylor series in x/16, squared four times. The terms from the tenth on are below 3e-9, so float32 is enough
    for them.
    """
    y = x / 16
    zero = jnp.zeros_like(y)
    tail = jnp.full_like(y, 1 / math.factorial(14))
    for k in range(13, 9, -1):
        tail = tail * y + 1 / math.factorial(k)
    coefficients = [constant(1 / math.factorial(k)) for k in range(9, -1, -1)]
    high, low = jnp.stack([c.high for c in coefficients]), jnp.stack([c.low for c in coefficients])

    def horner(k: int, result: Double) -> Double:
        return add(multiply(result, Double(y, zero)), Double(high[k], low[k]))

    # These loops stay loops in the compiled program: unrolled, they accounted for half of all operations in the program
    # of a training step.
    result = jax.lax.fori_loop(0, len(coefficients), horner, Double(tail, zero))
    return jax.lax.fori_loop(0, 4, lambda _, root: square(root), result)


def fraction_of_multiple(count: jax.Array, x: Double) -> jax.Array:
    """Return `count`·x minus its nearest integer, in [−½, ½], for integral float32 `count` below 2²⁴."""
    product = two_product(count, x.high)
    rest = product.low + count * x.low
    return (product.high - jnp.round(product.high)) + rest
