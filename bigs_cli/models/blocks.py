"""The gated block: two directions of sequence mixing, multiplied, gated and added to the residual stream."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.matmul import dense, has_symbolic_size, project
from bigs_cli.models.sharding import constrain_batch_sharding
from bigs_cli.models.ssm import SSM
from bigs_cli.recipe.schema import Compute

Mix = Callable[[jax.Array], jax.Array]
"""A function that mixes a sequence in one direction and keeps its shape."""


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

        The result has `dtype`, by default `compute.dtype`. With float32 it is the sum without rounding.
        """
        if has_symbolic_size(x):
            return _exported_dense(self.kernel[...], self.bias[...], x)
        dtype = self.dtype if dtype is None else jnp.dtype(dtype)
        x, kernel, bias = x.astype(self.dtype), self.kernel[...], self.bias[...]
        if channels_first:
            return constrain_batch_sharding(dense(kernel, bias, x, transposed=True, dtype=dtype), 1)
        return constrain_batch_sharding((project(x, kernel, dtype=jnp.float32) + bias).astype(dtype), 0)


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


class GatedBlock(nnx.Module):
    """With h = LN(x) (pre-norm; post-norm: h = x and out = LN(x + f(x))):

    v = gelu(dv·h) `[L, I]`, u_f = gelu(du_forward·h), u_b = gelu(du_backward·h) `[L, H]`,
    f = duc_forward·S_f(u_f), b = duc_backward·S_b(u_b), out = x + do·(gelu(dol·(f ⊙ b)) ⊙ v)
    (arXiv 2212.10544, §4). The attribute names are those of the published checkpoints.
    """

    def __init__(self, config: BiGSConfig, compute: Compute, *, channels_first: bool, rngs: nnx.Rngs) -> None:
        H, I = config.hidden_size, config.intermediate_size
        self.pre_norm = config.pre_norm
        self.channels_first = channels_first
        self.LayerNorm = layer_norm(config, compute, rngs, 0 if channels_first else -1)
        self.dv = Dense(H, I, compute)
        self.du_forward = Dense(H, H, compute)
        self.du_backward = Dense(H, H, compute)
        self.duc_forward = Dense(H, H, compute)
        self.duc_backward = Dense(H, H, compute)
        self.dol = Dense(H, I, compute)
        self.do = Dense(I, H, compute)
        self.fs4 = SSM(config)
        self.bs4 = SSM(config)

    def __call__(self, x: jax.Array, mix_forward: Mix, mix_backward: Mix) -> jax.Array:
        """Map x `[H, B·L]` (channels first) or `[B, L, H]`; `mix_forward` and `mix_backward` are S_f and S_b."""

        def apply(dense: Dense, x: jax.Array) -> jax.Array:
            return dense(x, self.channels_first)

        h = self.LayerNorm(x) if self.pre_norm else x
        v = gelu(apply(self.dv, h))
        f = apply(self.duc_forward, mix_forward(gelu(apply(self.du_forward, h))))
        b = apply(self.duc_backward, mix_backward(gelu(apply(self.du_backward, h))))
        out = x + apply(self.do, gelu(apply(self.dol, f * b)) * v)
        return out if self.pre_norm else self.LayerNorm(out)
