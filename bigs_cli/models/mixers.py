"""Mixing a sequence with one kernel for all channels, four ways that agree.

For the forward direction y[l] = Σ_{j ≤ l} K[l−j] u[j] + D u[l]; for the backward direction the sum runs over
j ≥ l with K[j−l], that is, the transposed matrix. Since K is the same for every channel, mixing is one Toeplitz
matrix `[L, L]` times the rows u `[R, L]` of all sequences and channels: a plain matrix product.

A `Mixer` first turns the discretized models of all layers into its `operands` (leading axes allowed: this runs
once a step, not once a layer), then mixes with one model's, along the last axis. To add a way: write the two
functions, add a line to `MIXERS`; the tests compare every entry with `recurrence`, values and gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bigs_cli.models.kernel import DiscreteSSM, convolution_kernel, powers
from bigs_cli.models.matmul import joined, last_axis_times

CHUNK = 128

# The longest rows that `auto` mixes densely. Measured on two cores of an AMD EPYC (Zen 4), nanoseconds a token and
# channel for a forward pass and its gradient, `bigs bench mixing --tokens 16384`, H = 256, N = 64:
#
#     L         128    256    512   1,024   2,048
#     dense     5.9   11.0   19.1    49.1    76.8   float32
#     chunked  17.8   26.8   24.6    23.9    28.1
#     fft      22.9   20.8   22.9    35.7    23.7
#     dense     5.6    7.5   11.6    38.3    54.1   bfloat16
#     chunked  12.4   24.2   26.0    24.4    20.7
#     fft      28.3   24.2   24.1    36.0    24.1
#
# The FFT is near, but a step with it is not: 2 × 1,024 tokens, 4 layers, bfloat16, took 0.55 s with it, 0.58 s dense
# and 0.29 s chunked. Accelerators have not been measured; there the products are cheaper beside the memory that chunked
# mixing goes through.
_LONGEST_DENSE = {"cpu": 512}
_LONGEST_DENSE_ELSEWHERE = 1024


class Mixer(NamedTuple):
    """`operands(ssm, L)` prepares matrices or kernels in float32; `mix(operands, u, reverse)` maps u `[..., L]`."""

    operands: Callable[[DiscreteSSM, int], Any]
    mix: Callable[[Any, jax.Array, bool], jax.Array]


def longest_dense() -> int:
    """Return the longest rows, in tokens, that ``auto`` mixes with ``dense`` on this backend."""
    return _LONGEST_DENSE.get(jax.default_backend(), _LONGEST_DENSE_ELSEWHERE)


def resolve(name: str, L: int) -> str:
    """Return the name of the mixer that ``auto`` stands for at `L` tokens on this backend, or `name`.

    Raises:
        ValueError: no mixer has that name.
    """
    if name == "auto":
        return "dense" if longest_dense() >= L else "chunked"
    if name not in MIXERS:
        raise ValueError(f"mixing must be auto or one of {', '.join(MIXERS)}, not {name!r}")
    return name


def choose(name: str, L: int) -> Mixer:
    """Return the mixer that `resolve` names."""
    return MIXERS[resolve(name, L)]


# --- dense: the Toeplitz matrix ---------------------------------------------------------------------------------


def _kernel_with_skip(ssm: DiscreteSSM, L: int) -> jax.Array:
    """Return K `[L]` with D added at lag 0: the skip is part of the convolution."""
    return convolution_kernel(ssm, L).at[..., 0].add(ssm.skip[..., 0])


def toeplitz(K: jax.Array) -> jax.Array:
    """Return the lower triangular T `[L, L]`, T[l, j] = K[l−j], from K `[L]`.

    Rows of period 2L cut to length 2L − 1 slide by one each: a reshape, whose gradient is a reshape and a sum.
    """
    L = K.shape[0]
    row = jnp.concatenate([K[::-1], jnp.zeros(L, K.dtype)])
    slid = jnp.tile(row, L)[: L * (2 * L - 1)].reshape(L, 2 * L - 1)
    return slid[:, L - 1 : 2 * L - 1]


def _mix_dense(K: jax.Array, u: jax.Array, reverse: bool) -> jax.Array:
    return last_axis_times(u, toeplitz(K), not reverse)


# --- chunked: Toeplitz inside a chunk, the state between chunks ---------------------------------------------------


class ChunkOperands(NamedTuple):
    """For chunks of Q tokens, states split into 2N real numbers (real parts, then imaginary)."""

    K: jax.Array  # [Q], with D at lag 0
    absorb: jax.Array  # [2N, Q]: a chunk's inputs, first to last, to the state after it
    emit: jax.Array  # [Q, 2N]: the state before a chunk to its outputs
    decay: jax.Array  # [2, N]: e^{Q s A}, real and imaginary part


def _chunk_operands(ssm: DiscreteSSM, L: int) -> ChunkOperands:
    Q = min(CHUNK, L)
    absorb_re, absorb_im = (part[..., ::-1, :] for part in powers(ssm, 0, Q))
    emit_re, emit_im = powers(ssm, 1, Q)
    w_re, w_im = (part[..., None, :] for part in ssm.weight)
    # Re(w e^{lz} x) = Re(w e^{lz}) Re x − Im(w e^{lz}) Im x
    emit = jnp.concatenate([emit_re * w_re - emit_im * w_im, -(emit_re * w_im + emit_im * w_re)], -1)
    absorb = jnp.concatenate([absorb_re, absorb_im], -1)
    return ChunkOperands(
        _kernel_with_skip(ssm, Q),
        absorb.swapaxes(-1, -2),
        emit,
        jnp.stack([emit_re[..., -1, :], emit_im[..., -1, :]], -2),
    )


def _mix_chunked(operands: ChunkOperands, u: jax.Array, reverse: bool) -> jax.Array:
    """Linear in L: Q + 4N multiplications per token and channel, all of them matrix products."""
    L, Q = u.shape[-1], operands.K.shape[0]
    chunks = -(-L // Q)
    u = jnp.pad(u, (*((0, 0) for _ in u.shape[:-1]), (0, chunks * Q - L)))
    rows = joined(u)
    rows = rows.reshape(*rows.shape[:-1], chunks, Q)
    absorb, emit = operands.absorb, operands.emit
    if reverse:  # the same operators with time running the other way
        absorb, emit = absorb[:, ::-1], emit[::-1]
    gathered = last_axis_times(rows, absorb, True, jnp.float32)
    before = _carry(operands.decay, gathered, reverse).astype(u.dtype)
    y = last_axis_times(rows, toeplitz(operands.K), not reverse) + last_axis_times(before, emit, True)
    return y.reshape(u.shape)[..., :L]


def _carry(decay: jax.Array, gathered: jax.Array, reverse: bool) -> jax.Array:
    """Return the state before each chunk from what each chunk adds, both `[..., chunks, 2N]` float32.

    x_{c+1} = e^{QsA} x_c + gathered_c, with x_0 = 0.
    """
    N = decay.shape[-1]
    re, im = decay[0], decay[1]

    def step(state: jax.Array, add: jax.Array) -> tuple[jax.Array, jax.Array]:
        x_re, x_im = state[..., :N], state[..., N:]
        turned = jnp.concatenate([re * x_re - im * x_im, im * x_re + re * x_im], -1)
        return turned + add, state

    by_chunk = jnp.moveaxis(gathered, -2, 0)
    _, before = jax.lax.scan(step, jnp.zeros_like(by_chunk[0]), by_chunk, reverse=reverse)
    return jnp.moveaxis(before, 0, -2)


# --- the references: FFT and recurrence --------------------------------------------------------------------------


def _mix_fft(K: jax.Array, u: jax.Array, reverse: bool) -> jax.Array:
    """Convolve through the FFT of length 2L, as the original code does; float32 inside."""
    L = u.shape[-1]
    kernel_spectrum = jnp.fft.rfft(K, n=2 * L)
    if reverse:  # correlation instead of convolution
        kernel_spectrum = kernel_spectrum.conj()
    spectrum = jnp.fft.rfft(u.astype(jnp.float32), n=2 * L)
    return jnp.fft.irfft(spectrum * kernel_spectrum, n=2 * L)[..., :L].astype(u.dtype)


class RecurrenceOperands(NamedTuple):
    """The discrete model step by step: pole e^{sA} `[2, N]`, weight `[2, N]` (real, imaginary), D `[1]`."""

    pole: jax.Array
    weight: jax.Array
    skip: jax.Array


def _recurrence_operands(ssm: DiscreteSSM, L: int) -> RecurrenceOperands:
    pole_re, pole_im = powers(ssm, 1, 1)
    return RecurrenceOperands(jnp.concatenate([pole_re, pole_im], -2), jnp.stack(ssm.weight, -2), ssm.skip)


def _mix_recurrence(operands: RecurrenceOperands, u: jax.Array, reverse: bool) -> jax.Array:
    """x_l = e^{sA} x_{l−1} + u_l, y_l = Re(w · x_l) + D u_l: the definition, one token at a time."""
    pole = jax.lax.complex(operands.pole[0], operands.pole[1])
    weight = jax.lax.complex(operands.weight[0], operands.weight[1])

    def step(x: jax.Array, u_l: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = pole * x + u_l[..., None]
        return x, (weight * x).real.sum(-1) + operands.skip * u_l

    start = jnp.zeros((*u.shape[:-1], pole.shape[0]), jnp.complex64)
    _, y = jax.lax.scan(step, start, jnp.moveaxis(u.astype(jnp.float32), -1, 0), reverse=reverse)
    return jnp.moveaxis(y, 0, -1).astype(u.dtype)


MIXERS: dict[str, Mixer] = {
    "dense": Mixer(_kernel_with_skip, _mix_dense),
    "chunked": Mixer(_chunk_operands, _mix_chunked),
    "fft": Mixer(_kernel_with_skip, _mix_fft),
    "recurrence": Mixer(_recurrence_operands, _mix_recurrence),
}
