"""Matrix products and dense layers match plain float32 arithmetic: values and gradients, both types, any shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bigs_cli.models.matmul import dense, matmul, project

TOLERANCE = {"float32": 2e-6, "bfloat16": 2e-2}


def drawn(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), jnp.float32)


def close(actual, expected, tolerance):
    expected = np.asarray(expected, np.float64)
    assert np.abs(np.asarray(actual, np.float64) - expected).max() <= tolerance * (np.abs(expected).max() + 1e-30)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("M", "K", "N"), [(1, 1, 1), (1, 16, 9), (9, 16, 1), (33, 1, 16), (24, 40, 17)])
def test_matmul_sums_in_float32(M, K, N, dtype):
    a, b = drawn(M, K).astype(dtype), drawn(K, N).astype(dtype)
    exact = np.asarray(a, np.float64) @ np.asarray(b, np.float64)
    plain = jax.jit(lambda a, b: (matmul(a, b), matmul(a, b.T, transposed=True)))(a, b)
    assert {y.dtype for y in plain} == {jnp.dtype(dtype)}
    # With bfloat16 factors, a float32 result has the accuracy of float32.
    for y in (matmul(a, b, dtype=jnp.float32), matmul(a, b.T, transposed=True, dtype=jnp.float32)):
        assert y.dtype == jnp.float32
        close(y, exact, 2e-6)
    for y in plain:
        close(y, exact, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("transposed", [False, True])
def test_dense_and_its_gradients(transposed, dtype):
    I, O, T = 24, 17, 30
    matrix, bias, x, weight = drawn(*((I, O) if transposed else (O, I))), drawn(O), drawn(I, T), drawn(O, T)

    def plain(matrix, bias, x):
        return (matrix.T if transposed else matrix) @ x + bias[:, None]

    def of(function):
        def loss(*arguments):
            y = function(*arguments)
            return (y.astype(jnp.float32) * weight).sum(), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))

    (_, expected), wanted = of(plain)(matrix, bias, x)
    (_, y), gradients = of(lambda m, b, x: dense(m, b, x.astype(dtype), transposed))(matrix, bias, x)
    assert y.dtype == dtype
    assert {g.dtype for g in gradients} == {jnp.dtype("float32")}
    for actual, right in zip((y, *gradients), (expected, *wanted), strict=True):
        close(actual, right, TOLERANCE[dtype])
    assert dense(matrix, bias, x.astype(dtype), transposed, jnp.float32).dtype == jnp.float32


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("transposed", [False, True])
def test_project_and_its_gradients(transposed, dtype):
    u, matrix, weight = drawn(3, 5, 8), drawn(*((9, 8) if transposed else (8, 9))), drawn(3, 5, 9)

    def of(function):
        return jax.jit(jax.grad(lambda u, m: (function(u, m).astype(jnp.float32) * weight).sum(), argnums=(0, 1)))

    def plain(u, m):
        return u @ (m.T if transposed else m)

    def ours(u, m):
        return project(u.astype(dtype), m, transposed)

    assert ours(u, matrix).dtype == dtype
    close(ours(u, matrix), plain(u, matrix), TOLERANCE[dtype])
    for actual, right in zip(of(ours)(u, matrix), of(plain)(u, matrix), strict=True):
        assert actual.dtype == jnp.float32
        close(actual, right, TOLERANCE[dtype])
