"""Mixing a sequence with one kernel for all channels.

For the forward direction y[l] = Σ_{j ≤ l} K[l−j] u[j] + D u[l]; for the backward direction the sum runs over
j ≥ l with K[j−l], that is, the transposed matrix. Since K is the same for every channel, mixing is one Toeplitz
matrix `[L, L]` times the rows u `[R, L]` of all sequences and channels: a plain matrix product.

A `Mixer` first turns the discretized SSMs of all layers into its `operands` (with leading axes: this runs once per
step, not once per layer), then mixes along the last axis with the operands of one SSM. To add a mixer, write its
functions and add an entry to `MIXERS`; the tests compare values and gradients of every entry with the recurrence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bigs_cli.models.backends import backend
from bigs_cli.models.matmul import flatten_rows, project
from bigs_cli.models.ssm import DiscreteSSM, convolution_kernel, powers

CHUNK = 128
GROUP = 512
"""Largest number of chunks that are mixed at a time, and again for the gradient.

The states before all chunks of a million tokens would take as much memory as four activations.
"""


class Mixer(NamedTuple):
    """One way to mix a sequence.

    `operands(ssm, L)` prepares matrices or kernels in float32, `mix(operands, u, reverse)` maps u `[..., L]`, and
    `flops(L, N)` is the number of operations for one channel of one row in one direction. `mix_channels_last` maps u
    `[B, L, C]`; None: u is transposed for `mix`.
    """

    operands: Callable[[DiscreteSSM, int], Any]
    mix: Callable[[Any, jax.Array, bool], jax.Array]
    flops: Callable[[int, int], float]
    mix_channels_last: Callable[[Any, jax.Array, bool], jax.Array] | None = None


def resolve(name: str, L: int) -> str:
    """Replace ``auto`` by the name of the mixer to use for `L` tokens on this backend; return other names unchanged.

    Raises:
        ValueError: no mixer has that name.
    """
    if name == "auto":
        return "dense" if backend().longest_dense >= L else "chunked"
    if name not in MIXERS:
        raise ValueError(f"mixing must be auto or one of {', '.join(MIXERS)}, not {name!r}")
    return name


def choose(name: str, L: int, segments: int = 1) -> Mixer:
    """Return the mixer that `resolve` names.

    For rows in several segments it is ``chunked``, whatever the name; it mixes u `[..., segments, rows, L / segments]`.
    """
    if segments > 1:
        return MIXERS["chunked"]._replace(operands=lambda ssm, L: _segment_operands(ssm, L // segments))
    return MIXERS[resolve(name, L)]


def mix_channels_last(mixer: Mixer, operands: Any, u: jax.Array, reverse: bool) -> jax.Array:
    """Mix u `[B, L, C]` along its second axis."""
    if mixer.mix_channels_last is not None:
        return mixer.mix_channels_last(operands, u, reverse)
    return mixer.mix(operands, u.swapaxes(1, 2), reverse).swapaxes(1, 2)


# --- dense: the Toeplitz matrix ---------------------------------------------------------------------------------


def kernel_with_skip(ssm: DiscreteSSM, L: int) -> jax.Array:
    """Return K `[L]` with the skip D added at lag 0."""
    return convolution_kernel(ssm, L).at[..., 0].add(ssm.skip[..., 0])


def toeplitz(K: jax.Array) -> jax.Array:
    """Return the lower triangular T `[L, L]`, T[l, j] = K[l−j], from K `[L]`.

    A sequence of period 2L is reshaped to rows of length 2L − 1, so that each row is shifted by one. The gradient is a
    reshape and a sum.
    """
    L = K.shape[0]
    row = jnp.concatenate([K[::-1], jnp.zeros(L, K.dtype)])
    shifted = jnp.tile(row, L)[: L * (2 * L - 1)].reshape(L, 2 * L - 1)
    return shifted[:, L - 1 : 2 * L - 1]


def _mix_dense(K: jax.Array, u: jax.Array, reverse: bool) -> jax.Array:
    return project(u, toeplitz(K), not reverse)


def _dense_flops(L: int, N: int) -> float:
    """Count T·u for T `[L, L]` and u `[L]`, including the zeros of T."""
    return 2 * L * L


# --- chunked: Toeplitz inside a chunk, the state between chunks ---------------------------------------------------


class ChunkOperands(NamedTuple):
    """Operands for chunks of Q tokens; states are 2N real numbers (real parts, then imaginary parts)."""

    K: jax.Array  # [Q], with D at lag 0
    absorb: jax.Array  # [2N, Q]: maps the inputs of a chunk to their part of the state after it
    emit: jax.Array  # [Q, 2N]: maps the state before a chunk to its part of the outputs
    decay: jax.Array  # [2, N]: e^{Q s A}, real and imaginary part
    segment_decay: jax.Array | None  # [2, N]: the same for a segment instead of Q tokens; None for whole rows


def chunk_operands(ssm: DiscreteSSM, Q: int, segment: int | None = None) -> ChunkOperands:
    """Return the operands for chunks of Q tokens, in segments of `segment` tokens (None: whole rows)."""
    absorb_re, absorb_im = (part[..., ::-1, :] for part in powers(ssm, 0, Q))
    emit_re, emit_im = powers(ssm, 1, Q)
    w_re, w_im = (part[..., None, :] for part in ssm.weight)
    # Re(w e^{lz} x) = Re(w e^{lz}) Re x − Im(w e^{lz}) Im x
    emit = jnp.concatenate([emit_re * w_re - emit_im * w_im, -(emit_re * w_im + emit_im * w_re)], -1)
    absorb = jnp.concatenate([absorb_re, absorb_im], -1)
    return ChunkOperands(
        kernel_with_skip(ssm, Q),
        absorb.swapaxes(-1, -2),
        emit,
        jnp.stack([emit_re[..., -1, :], emit_im[..., -1, :]], -2),
        None if segment is None else jnp.stack([part[..., 0, :] for part in powers(ssm, segment, 1)], -2),
    )


def _segment_operands(ssm: DiscreteSSM, length: int) -> ChunkOperands:
    """Return the operands for segments of `length` tokens, in the longest chunks without padding."""
    return chunk_operands(ssm, max(Q for Q in range(1, CHUNK + 1) if length % Q == 0), length)


def _mix_chunked(operands: ChunkOperands, u: jax.Array, reverse: bool) -> jax.Array:
    """Mix with Q + 4N multiplications per token and channel, all in matrix products; the cost is linear in L.

    With several segments, u is `[..., S, R, L / S]`, and each segment continues from the state after the one before.
    """
    L, Q = u.shape[-1], operands.K.shape[0]
    chunks = -(-L // Q)
    u = jnp.pad(u, (*((0, 0) for _ in u.shape[:-1]), (0, chunks * Q - L)))
    rows = flatten_rows(u) if operands.segment_decay is None else u
    y = _mix_chunks(operands, rows.reshape(*rows.shape[:-1], chunks, 1, Q), reverse)
    return y.reshape(u.shape)[..., :L]


def _mix_chunked_channels_last(operands: ChunkOperands, u: jax.Array, reverse: bool) -> jax.Array:
    """Mix u `[B, L, C]`. Each chunk is transposed on its own, in the cache: whole rows take as long as all products."""
    B, L, C = u.shape
    Q = operands.K.shape[0]
    chunks = -(-L // Q)
    u = jnp.pad(u, ((0, 0), (0, chunks * Q - L), (0, 0)))
    y = _mix_chunks(operands, u.reshape(B, chunks, Q, C).swapaxes(2, 3), reverse)
    return y.swapaxes(2, 3).reshape(u.shape)[:, :L]


def _mix_chunks(operands: ChunkOperands, u: jax.Array, reverse: bool) -> jax.Array:
    """Mix u `[..., chunks, R, Q]`, R sequences split into chunks."""
    zero = jnp.zeros((*u.shape[:-3], u.shape[-2], 2 * operands.decay.shape[-1]), jnp.float32)
    if operands.segment_decay is not None:
        return _mix_segments(operands, operands.segment_decay, u, zero, reverse)
    if u.shape[-3] <= GROUP:
        return _mix_from(operands, u, zero, reverse)[0]
    chunks = u.shape[-3]
    groups = -(-chunks // GROUP)
    size = -(-chunks // groups)
    u = jnp.pad(u, (*((0, 0) for _ in u.shape[:-3]), (0, groups * size - chunks), (0, 0), (0, 0)))
    grouped = jnp.moveaxis(u.reshape(*u.shape[:-3], groups, size, *u.shape[-2:]), -4, 0)

    @jax.checkpoint
    def mix_group(state: jax.Array, group: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, state = _mix_from(operands, group, state, reverse)
        return state, y

    _, y = jax.lax.scan(mix_group, zero, grouped, reverse=reverse)
    return jnp.moveaxis(y, 0, -4).reshape(u.shape)[..., :chunks, :, :]


def _mix_from(operands: ChunkOperands, u: jax.Array, first: jax.Array, reverse: bool) -> tuple[jax.Array, jax.Array]:
    """Mix u `[..., chunks, R, Q]` from the state `first` `[..., R, 2N]`; return the result and the state after it."""
    before, after = _carry(operands.decay, _absorbed(operands, u, reverse), first, reverse)
    return _emitted(operands, u, before, reverse), after


def _mix_segments(
    operands: ChunkOperands, segment_decay: jax.Array, u: jax.Array, zero: jax.Array, reverse: bool
) -> jax.Array:
    """Mix u `[..., segments, rows, chunks, 1, Q]`: each segment continues from the state after the one before."""
    added = _absorbed(operands, u, reverse)
    _, after = _carry(operands.decay, added, zero, reverse)
    by_segment = jnp.moveaxis(after, -4, -3)
    start, _ = _carry(segment_decay, by_segment, jnp.zeros_like(by_segment[..., 0, :, :]), reverse)
    before, _ = _carry(operands.decay, added, jnp.moveaxis(start, -3, -4), reverse)
    return _emitted(operands, u, before, reverse)


def _absorbed(operands: ChunkOperands, u: jax.Array, reverse: bool) -> jax.Array:
    """Return the part of the state after each chunk that comes from its inputs: float32 `[..., chunks, R, 2N]`."""
    # Backward mixing has the same operators with time reversed.
    return project(u, operands.absorb[:, ::-1] if reverse else operands.absorb, True, jnp.float32)


def _emitted(operands: ChunkOperands, u: jax.Array, before: jax.Array, reverse: bool) -> jax.Array:
    """Return the outputs `[..., chunks, R, Q]` of chunks with inputs u and the states `before` them."""
    emit = operands.emit[::-1] if reverse else operands.emit
    return project(u, toeplitz(operands.K), not reverse) + project(before.astype(u.dtype), emit, True)


def _carry(decay: jax.Array, added: jax.Array, first: jax.Array, reverse: bool) -> tuple[jax.Array, jax.Array]:
    """Return the state before each part of R sequences `[..., parts, R, 2N]`, and after the last part `[..., R, 2N]`.

    x_{c+1} = decay · x_c + added_c, with x_0 = `first` `[..., R, 2N]`; all float32. `decay` `[2, N]` is e^{sA} to the
    number of tokens in a part.
    """
    N = decay.shape[-1]
    re, im = decay[0], decay[1]

    def step(state: jax.Array, add: jax.Array) -> tuple[jax.Array, jax.Array]:
        x_re, x_im = state[..., :N], state[..., N:]
        decayed = jnp.concatenate([re * x_re - im * x_im, im * x_re + re * x_im], -1)
        return decayed + add, state

    after, before = jax.lax.scan(step, first, jnp.moveaxis(added, -3, 0), reverse=reverse)
    return jnp.moveaxis(before, 0, -3), after


def _chunked_flops(L: int, N: int) -> float:
    """Count, per chunk, T `[Q, Q]` and the two maps between Q tokens and the 2N numbers of the state; with padding."""
    Q = min(CHUNK, L)
    return 2 * math.ceil(L / Q) * Q * (Q + 4 * N)


# --- attention ----------------------------------------------------------------------------------------------------


def attend(query: jax.Array, key: jax.Array, value: jax.Array, keep: jax.Array, heads: int) -> jax.Array:
    """Return softmax(query·keyᵀ / √d)·value `[B, L, H]` with heads of size d = H / heads, from arrays `[B, L, H]`.

    `keep` `[B, L]` is 0 at positions that no position attends to. The softmax is float32.
    """

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], heads, -1)

    mask = keep[:, None, None, :].astype(bool)
    with jax.default_matmul_precision("highest" if query.dtype == jnp.float32 else "default"):
        mixed = jax.nn.dot_product_attention(split(query), split(key), split(value), mask=mask)
    return mixed.reshape(query.shape)


def attention_flops(L: int) -> float:
    """Count, per channel of one row, the products of queries with keys and of the weights with values."""
    return 2 * 2 * L * L


MIXERS: dict[str, Mixer] = {
    "dense": Mixer(kernel_with_skip, _mix_dense, _dense_flops),
    "chunked": Mixer(
        lambda ssm, L: chunk_operands(ssm, min(CHUNK, L)), _mix_chunked, _chunked_flops, _mix_chunked_channels_last
    ),
}
