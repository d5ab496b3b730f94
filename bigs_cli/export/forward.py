"""The forward pass in plain operations: what an ONNX or StableHLO file holds.

`models/` is written for training on the machine that runs it. A file that other runtimes load wants the same
equations as few, ordinary products: weights by name, kernels as constants, `[B, L, H]` throughout, no loops. The
export's check compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bigs_cli.checkpoints.arrays import Array, Flat
from bigs_cli.checkpoints.names import DECODER, POSITIONS, WORDS, prefix
from bigs_cli.models.kernel import DiscreteSSM, SSMParameters, convolution_kernel, discretize, powers
from bigs_cli.recipe.config import BiGSConfig

LONGEST_DENSE = 1024
"""Up to so many tokens a direction is one matrix `[L, L]`: 23 layers of both take 48 MB at 512 tokens, 193 at 1,024."""

CHUNK = 256
"""Tokens of a chunk beyond that. The states between chunks cost as much as inside at 128 chunks: 32,768 tokens."""

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
"""The names of what each head gives, in order."""

Forward = Callable[[Mapping[str, Any], Any, Any, Any], tuple[jax.Array, ...]]


class Toeplitz(NamedTuple):
    """A direction of a layer for rows of L tokens: T `[L, L]`, y = T u, with the skip D on its diagonal."""

    T: Array


class Chunks(NamedTuple):
    """A direction of a layer for rows of C chunks of Q tokens, with N complex states as 2N real numbers.

    What a chunk adds to the states is absorb·u; before chunk c they are Σ over the chunks already seen of carry·that;
    they give emit·x to the chunk's outputs, besides T u.
    """

    T: Array  # [Q, Q]
    absorb: Array  # [2N, Q]
    carry: Array  # [N, 2C, 2C]
    emit: Array  # [Q, 2N]


def mixing_constants(flat: Flat, config: BiGSConfig, L: int) -> list[tuple[Toeplitz | Chunks, Toeplitz | Chunks]]:
    """Return every layer's (forward, backward) mixing of rows of `L` tokens, computed here and now."""
    base = f"{prefix(config.head)}encoder/layer/"

    def direction(index: int, name: str) -> Toeplitz | Chunks:
        values = {field: flat[f"{base}{index}/{name}/{field}"] for field in SSMParameters._fields}
        ssm = discretize(SSMParameters(**{field: jnp.asarray(value) for field, value in values.items()}))
        made = _toeplitz(ssm, L) if L <= LONGEST_DENSE else _chunks(ssm, L)
        # Time runs the other way: the transposed matrices, and of the operators between chunks all axes of time turned.
        return made if name == "fs4" else _reversed(made)

    return [(direction(i, "fs4"), direction(i, "bs4")) for i in range(config.num_hidden_layers)]


def make_forward(config: BiGSConfig, constants: list[tuple[Toeplitz | Chunks, Toeplitz | Chunks]]) -> Forward:
    """Return `forward(weights, input_ids, attention_mask, token_type_ids)`, its outputs as `OUTPUTS` names them.

    Ids `[B, L]` (multiple choice `[B, choices, L]`), int32, with L that of `constants`. `weights` has every parameter
    by its published path; those of the SSMs are not read.
    """
    encoder = prefix(config.head)
    norm, _ = nnx.split(
        nnx.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=nnx.Rngs(0))
    )

    def forward(weights: Mapping[str, Any], ids: Any, mask: Any, types: Any) -> tuple[jax.Array, ...]:
        def dense(path: str, x: jax.Array) -> jax.Array:
            kernel, bias = weights[f"{path}/kernel"], weights[f"{path}/bias"]
            module = nnx.eval_shape(lambda: nnx.Linear(*kernel.shape, precision="highest", rngs=nnx.Rngs(0)))
            return nnx.merge(nnx.split(module)[0], {"kernel": kernel, "bias": bias})(x)

        def layer_norm(path: str, x: jax.Array) -> jax.Array:
            return nnx.merge(norm, {"scale": weights[f"{path}/scale"], "bias": weights[f"{path}/bias"]})(x)

        def layer(path: str, x: jax.Array, mixing: tuple[Toeplitz | Chunks, Toeplitz | Chunks]) -> jax.Array:
            h = layer_norm(f"{path}/LayerNorm", x) if config.pre_norm else x
            v = _gelu(dense(f"{path}/dv", h))
            u_forward, u_backward = (_gelu(dense(f"{path}/du_{side}", h)) for side in ("forward", "backward"))
            if config.mask_padding:
                u_forward, u_backward = u_forward * keep, u_backward * keep
            f = dense(f"{path}/duc_forward", _mix(mixing[0], u_forward))
            b = dense(f"{path}/duc_backward", _mix(mixing[1], u_backward))
            out = x + dense(f"{path}/do", _gelu(dense(f"{path}/dol", f * b)) * v)
            return out if config.pre_norm else layer_norm(f"{path}/LayerNorm", out)

        def pooled(x: jax.Array) -> jax.Array:
            weight = jnp.ones_like(keep) if config.pooler_type == "mean" else keep
            mean = (x * weight).sum(1) / jnp.maximum(weight.sum(1), 1)
            return jnp.tanh(dense(f"{encoder}pooler/dense", mean))

        def words(x: jax.Array) -> jax.Array:
            h = jax.nn.gelu(dense("cls/predictions/transform/dense", x), approximate=False)
            h = layer_norm("cls/predictions/transform/LayerNorm", h)
            matrix = weights[encoder + WORDS].T if config.tie_word_embeddings else weights[DECODER]
            return jnp.matmul(h, matrix, precision="highest") + weights["cls/predictions/bias"]

        choices = ids.shape[1]
        if config.head == "multiple-choice":
            ids, mask, types = (a.reshape(-1, a.shape[-1]) for a in (ids, mask, types))
        ids, types = _refusing(ids, config.vocab_size), _refusing(types, config.type_vocab_size)
        keep = mask.astype(jnp.float32)[..., None]
        x = jnp.take(weights[encoder + WORDS], ids, axis=0)
        x = x + jnp.take(weights[f"{encoder}embeddings/token_type_embeddings/embedding"], types, axis=0)
        x = x + weights[encoder + POSITIONS][: ids.shape[1]]
        x = layer_norm(f"{encoder}embeddings/LayerNorm", x)
        for index, mixing in enumerate(constants):
            x = layer(f"{encoder}encoder/layer/{index}", x, mixing)
        match config.head:
            case "encoder":
                return x, pooled(x)
            case "masked-lm":
                return (words(x),)
            case "pretraining":
                return words(x), dense("cls/seq_relationship", pooled(x))
            case "next-sentence":
                return (dense("cls/seq_relationship", pooled(x)),)
            case "sequence-classification":
                return (dense("classifier", pooled(x)),)
            case "token-classification":
                return (dense("classifier", x),)
            case "question-answering":
                logits = dense("qa_outputs", x)
                return logits[..., 0], logits[..., 1]
            case "multiple-choice":
                return (dense("classifier", pooled(x)).reshape(-1, choices),)

    return forward


def _refusing(ids: jax.Array, count: int) -> jax.Array:
    """Return ids with negative ones, which would be counted from the end, out of range as those from `count` are.

    Runtimes then refuse them (ONNX), or give NaN (StableHLO).
    """
    return jnp.where(ids < 0, count, ids)


def _gelu(x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x, approximate=True)


def _toeplitz(ssm: DiscreteSSM, L: int) -> Toeplitz:
    """T[l, j] = K[l − j], and D more on the diagonal."""
    K = np.asarray(convolution_kernel(ssm, L).at[0].add(ssm.skip[0]))
    lag = np.arange(L)[:, None] - np.arange(L)[None]
    return Toeplitz(np.where(lag >= 0, K[np.maximum(lag, 0)], np.float32(0)))


def _chunks(ssm: DiscreteSSM, L: int) -> Chunks:
    """The states before chunk c are Σ_{c' < c} e^{(c−1−c')QsA} · what chunk c' added."""
    C, N = -(-L // CHUNK), ssm.decay.shape[0]
    absorb_re, absorb_im = (np.asarray(part)[::-1] for part in powers(ssm, 0, CHUNK))
    emit_re, emit_im = map(np.asarray, powers(ssm, 1, CHUNK))
    w_re, w_im = map(np.asarray, ssm.weight)
    emit = np.concatenate([emit_re * w_re - emit_im * w_im, -(emit_re * w_im + emit_im * w_re)], 1)
    carry = np.zeros((N, 2, C, 2, C), np.float32)
    for steps in range(C - 1):
        re, im = (np.asarray(part)[0][:, None] for part in powers(ssm, steps * CHUNK, 1))
        to = np.arange(steps + 1, C)
        for row, column, value in ((0, 0, re), (0, 1, -im), (1, 0, im), (1, 1, re)):
            carry[:, row, to, column, to - steps - 1] = value
    absorb = np.concatenate([absorb_re, absorb_im], 1).T
    return Chunks(_toeplitz(ssm, CHUNK).T, np.ascontiguousarray(absorb), carry.reshape(N, 2 * C, 2 * C), emit)


def _reversed(made: Toeplitz | Chunks) -> Toeplitz | Chunks:
    if isinstance(made, Toeplitz):
        return Toeplitz(np.ascontiguousarray(made.T.T))
    N, twice, _ = made.carry.shape
    carry = made.carry.reshape(N, 2, twice // 2, 2, -1)[:, :, ::-1, :, ::-1].reshape(made.carry.shape)
    flipped = (made.T.T, made.absorb[:, ::-1], carry, made.emit[::-1])
    return Chunks(*map(np.ascontiguousarray, flipped))


def _mix(made: Toeplitz | Chunks, u: jax.Array) -> jax.Array:
    """Mix u `[B, L, H]` along L."""
    if isinstance(made, Toeplitz):
        return _batched(made.T, u)
    L, H = u.shape[1:]
    Q, twice, N = CHUNK, made.carry.shape[-1], made.carry.shape[0]
    C = twice // 2
    rows = jnp.pad(u, ((0, 0), (0, C * Q - L), (0, 0))).reshape(-1, C, Q, H)
    added = _batched(made.absorb, rows).reshape(-1, C, 2, N, H)
    before = _batched(made.carry, added.transpose(0, 3, 2, 1, 4).reshape(-1, N, twice, H))
    states = before.reshape(-1, N, 2, C, H).transpose(0, 3, 2, 1, 4).reshape(-1, C, 2 * N, H)
    y = _batched(made.T, rows) + _batched(made.emit, states)
    return y.reshape(-1, C * Q, H)[:, :L]


def _batched(matrix: Array, x: jax.Array) -> jax.Array:
    """Multiply every `[K, H]` of x `[…, K, H]` by matrix `[M, K]`, or by its own of `[N, M, K]`."""
    return jnp.matmul(matrix, x, precision="highest")
