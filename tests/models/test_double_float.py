"""Double-float arithmetic against NumPy's extended precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.models import double_float as df


def relative_error(result: df.Double, exact: np.ndarray) -> float:
    value = np.asarray(result.high, np.longdouble) + np.asarray(result.low, np.longdouble)
    return float(np.max(np.abs(value / exact - 1)))


def test_exp_is_exact_to_2e_13() -> None:
    x = np.linspace(-10, 10, 2001, dtype=np.float32)
    exact = np.exp(x.astype(np.longdouble))
    assert relative_error(jax.jit(df.exp)(jnp.asarray(x)), exact) < 2e-13


def test_a_square_and_a_product_are_exact_to_1e_13() -> None:
    generator = np.random.default_rng(0)
    high, low = generator.normal(size=(2, 1000)).astype(np.float32)
    pair = df.Double(jnp.asarray(high), jnp.asarray(low * np.abs(high) * np.float32(2**-27)))
    exact = high.astype(np.longdouble) + np.asarray(pair.low, np.longdouble)
    assert relative_error(jax.jit(df.square)(pair), exact**2) < 1e-13
    assert relative_error(jax.jit(df.multiply)(pair, pair), exact**2) < 1e-13
