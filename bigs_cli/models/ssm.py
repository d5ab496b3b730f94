"""The state-space model of one layer and direction, shared by all channels: parameters, discretization, kernel.

S4D (Gu, Gupta, Goel, Ré; arXiv 2206.11893): x' = A x + u, y = Re(C x) + D u with diagonal complex A, discretized with
step s (zero-order hold, B = 1), so that

    y[l] = Σ_{j ≤ l} K[l−j] u[j] + D u[l],      K[l] = Re Σ_n C_n (e^{s A_n} − 1)/A_n · e^{l s A_n}.

There is no factor 2, because the N states are not conjugate pairs. All shapes may have further leading axes (layers,
directions).
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bigs_cli.models import double_float as df
from bigs_cli.models.config import BiGSConfig

MAX_REAL_PART = -1e-4  # the maximum of Re A, so that no state grows; these three values are from the original code
SMALLEST_STEP, LARGEST_STEP = 0.01, 1.0  # of the initial s; a token is one unit of time
_STRIDE = 32  # only every 32nd power and the first 32 are computed with sine and cosine


class SSMParameters(NamedTuple):
    """The parameters, all float32: A_re `[N]`, A_im `[N]`, C `[N, 2]` (real, imaginary), D `[1]`, log_step `[1]`."""

    A_re: jax.Array
    A_im: jax.Array
    C: jax.Array
    D: jax.Array
    log_step: jax.Array


class SSM(nnx.Module):
    """The trained parameters of one direction, always float32."""

    def __init__(self, config: BiGSConfig) -> None:
        N = config.num_ssm
        self.A_re = nnx.Param(jnp.zeros(N))
        self.A_im = nnx.Param(jnp.zeros(N))
        self.C = nnx.Param(jnp.zeros((N, 2)))
        self.D = nnx.Param(jnp.zeros(1))
        self.log_step = nnx.Param(jnp.zeros(1))

    def parameters(self) -> SSMParameters:
        """Return the arrays."""
        return SSMParameters(self.A_re[...], self.A_im[...], self.C[...], self.D[...], self.log_step[...])


class DiscreteSSM(NamedTuple):
    """The discretized model: poles e^{decay + i·turn}, weights C(e^{sA} − 1)/A, and the skip D."""

    decay: jax.Array  # [N], s·Re A, below zero
    turn: jax.Array  # [N], s·Im A in radians
    cycles: df.Double  # [N], turn / 2π to 48 bits
    weight: tuple[jax.Array, jax.Array]  # [N] real, [N] imaginary
    skip: jax.Array  # [1]


def initial_state_matrix(scaling: str, N: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the initial (A_re, A_im), each `[N]` float32: ``hippo``, ``lin`` or ``inv``.

    ``hippo``: Im A are the eigenvalues, ascending, of the skew part of HiPPO-LegS, A_nk = −√(2n+1)√(2k+1) for
    n > k (S4D-LegS); ``lin``: πn; ``inv``: (N/π)(N/(2n+1) − 1). Re A is −½ in all (arXiv 2206.11893, §4).

    Raises:
        ValueError: `scaling` is not one of the three.
    """
    n = np.arange(N)
    if scaling == "hippo":
        root = np.sqrt(2 * n + 1)
        product = root[:, None] * root[None, :] / 2
        skew = np.triu(product, 1) - np.tril(product, -1)
        A_im = np.linalg.eigvalsh(skew * -1j)
    elif scaling == "lin":
        A_im = np.pi * n
    elif scaling == "inv":
        A_im = N / np.pi * (N / (2 * n + 1) - 1)
    else:
        raise ValueError(f"scaling must be hippo, lin or inv, not {scaling!r}")
    return np.full(N, -0.5, np.float32), A_im.astype(np.float32)


def discretize(ssm: SSMParameters) -> DiscreteSSM:
    """Discretize with step exp(log_step) and zero-order hold: sA, and C(e^{sA} − 1)/A without cancellation."""
    step = jnp.exp(ssm.log_step)
    A_re = jnp.minimum(ssm.A_re, MAX_REAL_PART)
    decay, turn = step * A_re, step * ssm.A_im
    cycles = _cycles(ssm.log_step, ssm.A_im)
    # e^{a+ib} − 1 = expm1(a) cos b − 2 sin²(b/2) + i eᵃ sin b, with b reduced to (−π, π] before the sine.
    reduced = 2 * jnp.pi * df.fraction_of_multiple(jnp.ones_like(turn), cycles)
    angle = reduced + (turn - jax.lax.stop_gradient(turn))
    held_re = jnp.expm1(decay) * jnp.cos(angle) - 2 * jnp.sin(angle / 2) ** 2
    held_im = jnp.exp(decay) * jnp.sin(angle)
    norm = A_re**2 + ssm.A_im**2
    input_re = (held_re * A_re + held_im * ssm.A_im) / norm
    input_im = (held_im * A_re - held_re * ssm.A_im) / norm
    C_re, C_im = ssm.C[..., 0], ssm.C[..., 1]
    weight = (C_re * input_re - C_im * input_im, C_re * input_im + C_im * input_re)
    return DiscreteSSM(decay, turn, cycles, weight, ssm.D)


def powers(ssm: DiscreteSSM, first: int, count: int) -> tuple[jax.Array, jax.Array]:
    """Return e^{l·s·A_n} for l = first … first + count − 1: real and imaginary parts, each `[count, N]`."""
    return _powers(first, count, ssm.decay, ssm.turn, ssm.cycles)


def convolution_kernel(ssm: DiscreteSSM, L: int) -> jax.Array:
    """Return K[0..L−1] `[L]` float32, without D, by the closed form above."""
    power_re, power_im = powers(ssm, 0, L)
    product = partial(jnp.einsum, "...ln,...n->...l", precision="highest")
    return product(power_re, ssm.weight[0]) - product(power_im, ssm.weight[1])


def _cycles(log_step: jax.Array, A_im: jax.Array) -> df.Double:
    """Return s·A_im / 2π `[N]` with 48 bits; a constant in differentiation, which uses `turn` instead."""
    log_step, A_im = jax.lax.stop_gradient((log_step, A_im))
    per_unit = df.multiply(df.exp(log_step), df.constant(1 / (2 * math.pi)))
    return df.multiply(per_unit, df.Double(A_im, jnp.zeros_like(A_im)))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _powers(
    first: int, count: int, decay: jax.Array, turn: jax.Array, cycles: df.Double
) -> tuple[jax.Array, jax.Array]:
    def at(l: jax.Array) -> tuple[jax.Array, jax.Array]:
        l = l.astype(jnp.float32)[:, None]
        cycle = df.Double(cycles.high[..., None, :], cycles.low[..., None, :])
        phase = 2 * jnp.pi * df.fraction_of_multiple(l, cycle)
        size = jnp.exp(l * decay[..., None, :])
        return size * jnp.cos(phase), size * jnp.sin(phase)

    # e^{(Sa + b)z} = e^{Saz} e^{bz}: a complex product costs a tenth of a sine and a cosine.
    coarse_re, coarse_im = (part[..., :, None, :] for part in at(first + _STRIDE * jnp.arange(-(-count // _STRIDE))))
    fine_re, fine_im = (part[..., None, :, :] for part in at(jnp.arange(min(_STRIDE, count))))
    real, imaginary = coarse_re * fine_re - coarse_im * fine_im, coarse_re * fine_im + coarse_im * fine_re
    whole = (*real.shape[:-3], -1, real.shape[-1])
    return real.reshape(whole)[..., :count, :], imaginary.reshape(whole)[..., :count, :]


@_powers.defjvp
def _powers_jvp(
    first: int,
    count: int,
    primals: tuple[jax.Array, jax.Array, df.Double],
    tangents: tuple[jax.Array, jax.Array, df.Double],
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """d e^{lz} = l e^{lz} dz, independent of how e^{lz} was computed."""
    power_re, power_im = _powers(first, count, *primals)
    l = jnp.arange(first, first + count, dtype=jnp.float32)[:, None]
    d_decay, d_turn = l * tangents[0][..., None, :], l * tangents[1][..., None, :]
    tangent_re = power_re * d_decay - power_im * d_turn
    tangent_im = power_im * d_decay + power_re * d_turn
    return (power_re, power_im), (tangent_re, tangent_im)
