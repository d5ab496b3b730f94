"""One BiGS layer: two directions of sequence mixing, multiplied, gated, added to the residual stream."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from bigs_cli.models import kernel
from bigs_cli.models.batch_sharding import constrain_batch_sharding
from bigs_cli.models.matmul import last_axis_times, linear, precision
from bigs_cli.models.mixers import Mixer
from bigs_cli.recipe.config import BiGSConfig
from bigs_cli.recipe.schema import Compute


def gelu(x: jax.Array) -> jax.Array:
    """The tanh approximation of GELU, as everywhere in the layers (the masked-LM head uses the exact form)."""
    return jax.nn.gelu(x.astype(jnp.float32), approximate=True).astype(x.dtype)


class Dense(nnx.Module):
    """A dense map, kernel `[I, O]` and bias `[O]`, in `compute.dtype` with float32 sums, also those of gradients."""

    def __init__(self, in_features: int, out_features: int, compute: Compute) -> None:
        self.dtype = jnp.dtype(compute.dtype)
        self.as_rows = compute.layout == "rows"
        self.kernel = nnx.Param(jnp.zeros((in_features, out_features)))
        self.bias = nnx.Param(jnp.zeros(out_features))

    def __call__(self, x: jax.Array, channels_first: bool = False, dtype: DTypeLike | None = None) -> jax.Array:
        """Map `[..., I]` to `[..., O]`, or `[I, T]` to `[O, T]` if `channels_first`.

        The result has `dtype`, by default `compute.dtype`; float32 is that of the sums, not a rounded value cast.
        """
        dtype = self.dtype if dtype is None else jnp.dtype(dtype)
        x, kernel, bias = x.astype(self.dtype), self.kernel[...], self.bias[...]
        if channels_first:
            return constrain_batch_sharding(linear(kernel, bias, x, transposed=True, dtype=dtype), 1)
        if self.as_rows and dtype == self.dtype:
            y = jnp.dot(x, kernel.astype(self.dtype), precision=precision(self.dtype))
        else:
            y = last_axis_times(x, kernel, dtype=jnp.float32)
        return constrain_batch_sharding((y + bias).astype(dtype), 0)


def layer_norm(config: BiGSConfig, compute: Compute, rngs: nnx.Rngs, axis: int = -1) -> nnx.LayerNorm:
    """LayerNorm over H, which is x's `axis`, with float32 statistics.

    The variance is taken around the mean, not as E[x²] − E[x]².
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


class SSM(nnx.Module):
    """The trained numbers of one direction: A_re, A_im `[N]`, C `[N, 2]`, D, log_step `[1]`; always float32."""

    def __init__(self, config: BiGSConfig) -> None:
        N = config.num_ssm
        self.A_re = nnx.Param(jnp.zeros(N))
        self.A_im = nnx.Param(jnp.zeros(N))
        self.C = nnx.Param(jnp.zeros((N, 2)))
        self.D = nnx.Param(jnp.zeros(1))
        self.log_step = nnx.Param(jnp.zeros(1))

    def parameters(self) -> kernel.SSMParameters:
        """Return the arrays as `kernel.SSMParameters`."""
        return kernel.SSMParameters(self.A_re[...], self.A_im[...], self.C[...], self.D[...], self.log_step[...])


class Layer(nnx.Module):
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

    def __call__(
        self, x: jax.Array, mixer: Mixer, operands: tuple[Any, Any], keep: jax.Array | None, B: int
    ) -> jax.Array:
        """Map x `[H, B·L]` (channels first), `[B·L, H]` or `[B, L, H]`.

        `operands` are the mixer's for (forward, backward). `keep` zeroes padding: x's shape, but 1 for H.
        """

        def apply(dense: Dense, x: jax.Array) -> jax.Array:
            return dense(x, self.channels_first)

        def mix(index: int, u: jax.Array) -> jax.Array:
            if keep is not None:
                u = u * keep.astype(u.dtype)
            if self.channels_first:
                return mixer.mix(operands[index], u.reshape(len(u), B, -1), index == 1).reshape(u.shape)
            rows = u.reshape(B, -1, u.shape[-1]).swapaxes(1, 2)
            return mixer.mix(operands[index], rows, index == 1).swapaxes(1, 2).reshape(u.shape)

        h = self.LayerNorm(x) if self.pre_norm else x
        v = gelu(apply(self.dv, h))
        f = apply(self.duc_forward, mix(0, gelu(apply(self.du_forward, h))))
        b = apply(self.duc_backward, mix(1, gelu(apply(self.du_backward, h))))
        out = x + apply(self.do, gelu(apply(self.dol, f * b)) * v)
        return out if self.pre_norm else self.LayerNorm(out)
