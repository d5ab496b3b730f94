"""The block of a layer: gated or stacked, mixing the sequence with two SSMs or with attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.matmul import dense, has_symbolic_size, project
from bigs_cli.models.sharding import constrain_rows, constrain_tokens
from bigs_cli.models.ssm import SSM
from bigs_cli.recipe.groups import Compute

PART = 1 << 16
"""The number of tokens of a part in `Block`. Products of more tokens are not faster."""
Mix = Callable[..., jax.Array]
"""A function that mixes a sequence and keeps its shape: S(u) of one direction, or attention(query, key, value)."""


def gelu(x: jax.Array) -> jax.Array:
    """Return the tanh approximation of GELU, which all blocks use; the masked-LM head uses the exact GELU."""
    return jax.nn.gelu(x.astype(jnp.float32), approximate=True).astype(x.dtype)


class Dense(nnx.Module):
    """A dense layer with kernel `[I, O]` and bias `[O]`, in `compute.dtype`. Sums and their gradients are float32."""

    def __init__(self, in_features: int, out_features: int, compute: Compute) -> None:
        self.dtype = jnp.dtype(compute.dtype)
        self.kernel = nnx.Param(jnp.zeros((in_features, out_features)))
        self.bias = nnx.Param(jnp.zeros(out_features))

    def __call__(self, x: jax.Array, channels_first: bool = False, dtype: DTypeLike | None = None) -> jax.Array:
        """Map `[..., I]` to `[..., O]`, or `[I, T]` to `[O, T]` if `channels_first`.

        The result has `dtype`, by default `compute.dtype`. With `dtype` float32, the float32 sum is returned without
        rounding it to `compute.dtype`.
        """
        if has_symbolic_size(x):
            return _exported_dense(self.kernel[...], self.bias[...], x)
        dtype = self.dtype if dtype is None else jnp.dtype(dtype)
        x, kernel, bias = x.astype(self.dtype), self.kernel[...], self.bias[...]
        if channels_first:
            return constrain_tokens(dense(kernel, bias, x, transposed=True, dtype=dtype))
        return constrain_rows((project(x, kernel, dtype=jnp.float32) + bias).astype(dtype))


def _exported_dense(kernel: jax.Array, bias: jax.Array, x: jax.Array) -> jax.Array:
    """Apply an `nnx.Linear`: jax2onnx converts it to one Gemm, and `dot_general` to Einsum, Expand and Add."""
    linear = nnx.eval_shape(lambda: nnx.Linear(*kernel.shape, precision="highest", rngs=nnx.Rngs(0)))
    return nnx.merge(nnx.split(linear)[0], {"kernel": kernel, "bias": bias})(x)


def layer_norm(config: BiGSConfig, compute: Compute, rngs: nnx.Rngs, axis: int = -1) -> nnx.LayerNorm:
    """Return a LayerNorm over `axis`, which has size H, with float32 statistics.

    The variance is the mean of (x − E[x])², not E[x²] − E[x]².
    """
    return nnx.LayerNorm(
        config.hidden_size,
        epsilon=config.layer_norm_eps,
        dtype=jnp.dtype(compute.dtype),
        use_fast_variance=False,
        reduction_axes=axis,
        feature_axes=axis,
        rngs=rngs,
    )


class Block(nnx.Module):
    """With h = LN(x) (pre-norm; post-norm: h = x, and the sum is normalized instead):

    - gated: out = x + do·(gelu(dol·m) ⊙ gelu(dv·h)), with dv and dol to `[L, I]` (arXiv 2212.10544, §4);
    - stacked: y = x + m, out = y + output·gelu(intermediate·LN(y)), as in a pre-norm Transformer.

    The mixed sequence m `[L, H]` is

    - ssm: f = duc_forward·S_f(gelu(du_forward·h)) and b = duc_backward·S_b(gelu(du_backward·h)), multiplied in a gated
      block and added in a stacked one;
    - attention: softmax(query·key^T / √d)·value in `num_attention_heads` heads of size d = H / heads. A stacked block
      applies a further dense layer, as in BERT; in a gated block, dol is that layer.

    The attribute names of the gated block with SSMs are those of the published checkpoints. The paper does not specify
    the other three combinations (gated with attention, stacked with SSMs, stacked with attention) in detail; these are
    their usual forms.
    """

    def __init__(self, config: BiGSConfig, compute: Compute, *, channels_first: bool, rngs: nnx.Rngs) -> None:
        H, I, axis = config.hidden_size, config.intermediate_size, 0 if channels_first else -1
        self.gated, self.pre_norm, self.attention = config.block == "gated", config.pre_norm, config.attends
        self.channels_first = channels_first
        self.LayerNorm = layer_norm(config, compute, rngs, axis)
        if self.attention:
            self.query, self.key, self.value = (Dense(H, H, compute) for _ in range(3))
            if not self.gated:
                self.attention_output = Dense(H, H, compute)
        else:
            self.du_forward, self.du_backward = Dense(H, H, compute), Dense(H, H, compute)
            self.duc_forward, self.duc_backward = Dense(H, H, compute), Dense(H, H, compute)
            self.fs4, self.bs4 = SSM(config), SSM(config)
        if self.gated:
            self.dv, self.dol, self.do = Dense(H, I, compute), Dense(H, I, compute), Dense(I, H, compute)
        else:
            self.feed_forward_norm = layer_norm(config, compute, rngs, axis)
            self.intermediate, self.output = Dense(H, I, compute), Dense(I, H, compute)

    def __call__(self, x: jax.Array, *mixing: Mix, in_parts: bool = False) -> jax.Array:
        """Map x `[H, B·L]` (channels first) or `[B, L, H]`; `mixing` is S_f and S_b, or the attention.

        With `in_parts`, all other layers process `PART` tokens at a time.
        """
        apply = _by_parts if in_parts else _at_once
        inputs = apply(self._before_mixing, x)
        mixed = [mixing[0](*inputs)] if self.attention else [mix(u) for mix, u in zip(mixing, inputs, strict=True)]
        return apply(self._after_mixing, x, *mixed)

    def _before_mixing(self, x: jax.Array) -> tuple[jax.Array, ...]:
        """Return query, key and value, or the inputs of S_f and S_b."""
        h = self.LayerNorm(x) if self.pre_norm else x
        if self.attention:
            return self._apply(self.query, h), self._apply(self.key, h), self._apply(self.value, h)
        return gelu(self._apply(self.du_forward, h)), gelu(self._apply(self.du_backward, h))

    def _after_mixing(self, x: jax.Array, *mixed: jax.Array) -> jax.Array:
        m = self._combined(*mixed)
        if self.gated:
            h = self.LayerNorm(x) if self.pre_norm else x
            out = x + self._apply(self.do, gelu(self._apply(self.dol, m)) * gelu(self._apply(self.dv, h)))
            return out if self.pre_norm else self.LayerNorm(out)
        y = x + m if self.pre_norm else self.LayerNorm(x + m)
        h = self.feed_forward_norm(y) if self.pre_norm else y
        out = y + self._apply(self.output, gelu(self._apply(self.intermediate, h)))
        return out if self.pre_norm else self.feed_forward_norm(out)

    def _combined(self, *mixed: jax.Array) -> jax.Array:
        if self.attention:
            return mixed[0] if self.gated else self._apply(self.attention_output, mixed[0])
        f, b = self._apply(self.duc_forward, mixed[0]), self._apply(self.duc_backward, mixed[1])
        return f * b if self.gated else f + b

    def _apply(self, dense: Dense, x: jax.Array) -> jax.Array:
        return dense(x, self.channels_first)


def _at_once(function: Callable[..., Any], *arrays: jax.Array) -> Any:
    return function(*arrays)


def _by_parts(function: Callable[..., Any], *arrays: jax.Array) -> Any:
    """Return `function(*arrays)`, where each token of the results depends only on the same token of the arrays.

    The second axis of all arrays has the tokens. Parts are computed one after the other, and again for the gradient:
    the intermediate results of a million tokens need many gigabytes.
    """
    tokens = arrays[0].shape[1]
    parts = -(-tokens // PART)

    def split(array: jax.Array) -> jax.Array:
        padded = jnp.pad(array, ((0, 0), (0, parts * PART - tokens), *((0, 0) for _ in array.shape[2:])))
        return jnp.moveaxis(padded.reshape(array.shape[0], parts, PART, *array.shape[2:]), 1, 0)

    def joined(array: jax.Array) -> jax.Array:
        whole = jnp.moveaxis(array, 0, 1)
        return whole.reshape(whole.shape[0], parts * PART, *whole.shape[3:])[:, :tokens]

    results = jax.lax.map(jax.checkpoint(lambda part: function(*part)), tuple(map(split, arrays)))
    return jax.tree.map(joined, results)
