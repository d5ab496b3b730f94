"""The forward pass with constant mixing matrices, as a function of weights and ids, for ONNX and StableHLO files.

It runs the NNX module in its inference form, with other mixing functions for SSMs: their matrices are constants that
are computed when the export is written, and rows longer than `LONGEST_DENSE` are mixed without a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.checkpoints.arrays import Array, Flat
from bigs_cli.models.blocks import Mix
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import make_apply
from bigs_cli.models.mixers import chunk_operands, kernel_with_skip, toeplitz
from bigs_cli.models.published import is_ssm, prefix, to_unstacked
from bigs_cli.models.ssm import DiscreteSSM, SSMParameters, discretize, powers
from bigs_cli.recipe.groups import Compute

LONGEST_DENSE = 1024
"""Rows of up to this many tokens are mixed with one matrix `[L, L]` per direction. For 23 layers these matrices need
48 MB at 512 tokens and 193 MB at 1,024."""

CHUNK = 256
"""Tokens per chunk of longer rows. At 128 chunks (32,768 tokens) the states cost as much as the chunks."""

OUTPUTS: dict[str, tuple[str, ...]] = {
    "encoder": ("last_hidden_state", "pooler_output"),
    "masked-lm": ("logits",),
    "pretraining": ("prediction_logits", "seq_relationship_logits"),
    "next-sentence": ("logits",),
    "sequence-classification": ("logits",),
    "token-classification": ("logits",),
    "question-answering": ("start_logits", "end_logits"),
    "multiple-choice": ("logits",),
}
"""The names of the outputs of each head, in order."""

Forward = Callable[[Mapping[str, Any], Any, Any, Any], tuple[jax.Array, ...]]


class Chunks(NamedTuple):
    """One direction of a layer for rows of C chunks of Q tokens, with N complex states as 2N real numbers.

    A chunk adds absorb·u to the states. The states x before a chunk are carry times these contributions, summed over
    the preceding chunks. The outputs of a chunk are T·u + emit·x.
    """

    T: Array  # [Q, Q]
    absorb: Array  # [2N, Q]
    carry: Array  # [N, 2C, 2C]
    emit: Array  # [Q, 2N]


def make_forward(flat: Flat, config: BiGSConfig, L: int) -> Forward:
    """Return `forward(weights, input_ids, attention_mask, token_type_ids)`; its outputs are named in `OUTPUTS`.

    Ids are int32 `[B, L]` (multiple choice: `[B, choices, L]`). The mixing matrices for `L` tokens are computed here,
    from `flat`. `weights` maps published paths to parameters; those of the SSMs are not used and may be missing. Ids
    out of range, including negative ones, raise an error in ONNX runtimes and give NaN in StableHLO.
    """
    mixing = None if config.attends else _mixing(flat, config, L).__getitem__
    apply = make_apply(config, Compute(), unstacked=True)
    unused = {path: np.zeros_like(array) for path, array in flat.items() if is_ssm(path)}

    def forward(weights: Mapping[str, Any], ids: Any, mask: Any, types: Any) -> tuple[jax.Array, ...]:
        params = to_unstacked({**weights, **unused})
        ids = _invalidate_negative(ids, config.vocab_size)
        types = _invalidate_negative(types, config.type_vocab_size)
        outputs = apply(params, ids, mask, types, mixing=mixing)
        return tuple(outputs[name] for name in OUTPUTS[config.head])

    return forward


def _mixing(flat: Flat, config: BiGSConfig, L: int) -> list[tuple[Mix, Mix]]:
    """Return the forward and the backward mixing function of each layer."""
    layers = [f"{prefix(config.head)}encoder/layer/{index}" for index in range(config.num_hidden_layers)]
    return [(_mix(flat, f"{layer}/fs4", L, False), _mix(flat, f"{layer}/bs4", L, True)) for layer in layers]


def _invalidate_negative(ids: jax.Array, count: int) -> jax.Array:
    """Replace negative ids, which would index a table of `count` rows from its end, by an id that is out of range."""
    return jnp.where(ids < 0, count, ids)


def _mix(flat: Flat, path: str, L: int, reverse: bool) -> Mix:
    """Return the function that mixes `[B, L, H]` along L with the SSM at `path`, including D."""
    ssm = discretize(SSMParameters(**{name: jnp.asarray(flat[f"{path}/{name}"]) for name in SSMParameters._fields}))
    if L <= LONGEST_DENSE:
        T = np.asarray(toeplitz(kernel_with_skip(ssm, L)))
        T = np.ascontiguousarray(T.T) if reverse else T
        return lambda u: _matmul(T, u)
    chunks = _chunks(ssm, L)
    chunks = _reversed(chunks) if reverse else chunks
    return lambda u: _mix_chunks(chunks, u)


def _chunks(ssm: DiscreteSSM, L: int) -> Chunks:
    """Return the operands of a direction; the states before chunk c are Σ_{c' < c} e^{(c−1−c')QsA} · absorb·u_{c'}."""
    C, N = -(-L // CHUNK), ssm.decay.shape[0]
    K, absorb, emit, *_ = chunk_operands(ssm, CHUNK)
    carry = np.zeros((N, 2, C, 2, C), np.float32)
    for steps in range(C - 1):
        re, im = (np.asarray(part)[0][:, None] for part in powers(ssm, steps * CHUNK, 1))
        to = np.arange(steps + 1, C)
        for row, column, value in ((0, 0, re), (0, 1, -im), (1, 0, im), (1, 1, re)):
            carry[:, row, to, column, to - steps - 1] = value
    return Chunks(*map(np.asarray, (toeplitz(K), absorb, carry.reshape(N, 2 * C, 2 * C), emit)))


def _reversed(chunks: Chunks) -> Chunks:
    """Return the operands of the backward direction: every time axis is reversed."""
    N, width, _ = chunks.carry.shape
    carry = chunks.carry.reshape(N, 2, width // 2, 2, -1)[:, :, ::-1, :, ::-1].reshape(chunks.carry.shape)
    return Chunks(*map(np.ascontiguousarray, (chunks.T.T, chunks.absorb[:, ::-1], carry, chunks.emit[::-1])))


def _mix_chunks(chunks: Chunks, u: jax.Array) -> jax.Array:
    L, H = u.shape[1:]
    Q, N, width = CHUNK, *chunks.carry.shape[:2]
    C = width // 2
    rows = jnp.pad(u, ((0, 0), (0, C * Q - L), (0, 0))).reshape(-1, C, Q, H)
    added = _matmul(chunks.absorb, rows).reshape(-1, C, 2, N, H)
    before = _matmul(chunks.carry, added.transpose(0, 3, 2, 1, 4).reshape(-1, N, width, H))
    states = before.reshape(-1, N, 2, C, H).transpose(0, 3, 2, 1, 4).reshape(-1, C, 2 * N, H)
    y = _matmul(chunks.T, rows) + _matmul(chunks.emit, states)
    return y.reshape(-1, C * Q, H)[:, :L]


def _matmul(matrix: Array, x: jax.Array) -> jax.Array:
    """Multiply x `[…, K, H]` by a matrix `[M, K]`, or x `[…, N, K, H]` by matrices `[N, M, K]`."""
    return jnp.matmul(matrix, x, precision="highest")
