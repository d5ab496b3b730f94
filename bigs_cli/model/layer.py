"""One BiGS layer: two directions of sequence mixing, multiplied, gated, added to the residual stream."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from bigs_cli.model import kernel
from bigs_cli.model.mixing import Mixer
from bigs_cli.model.product import last_axis_times, linear, precision
from bigs_cli.recipe.config import BiGSConfig
from bigs_cli.recipe.schema import Compute


def gelu(x: jax.Array) -> jax.Array:
    """The tanh approximation of GELU, as everywhere in the layers (the masked-LM head uses the exact form)."""
    return jax.nn.gelu(x.astype(jnp.float32), approximate=True).astype(x.dtype)


def dense(
    in_features: int,
    out_features: int,
    config: BiGSConfig,
    compute: Compute,
    rngs: nnx.Rngs,
) -> nnx.Linear:
    """A dense map with bias that computes in `compute.dtype`; initial values are `initial`'s, as everywhere here."""

    def multiply(x: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
        return last_axis_times(x, kernel)

    return nnx.Linear(
        in_features,
        out_features,
        dtype=jnp.dtype(compute.dtype),
        precision=precision(compute.dtype),
        dot_general=jax.lax.dot_general if compute.layout == "rows" else multiply,
        rngs=rngs,
    )


def layer_norm(config: BiGSConfig, compute: Compute, rngs: nnx.Rngs, channels: int = -1) -> nnx.LayerNorm:
    """LayerNorm over H, which is the axis `channels`, with float32 statistics.

    The variance is taken around the mean, not as E[x²] − E[x]².
    """
    return nnx.LayerNorm(
        config.hidden_size,
        epsilon=config.layer_norm_eps,
        dtype=jnp.dtype(compute.dtype),
        use_fast_variance=False,
        reduction_axes=channels,
        feature_axes=channels,
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
        self.dv = dense(H, I, config, compute, rngs)
        self.du_forward = dense(H, H, config, compute, rngs)
        self.du_backward = dense(H, H, config, compute, rngs)
        self.duc_forward = dense(H, H, config, compute, rngs)
        self.duc_backward = dense(H, H, config, compute, rngs)
        self.dol = dense(H, I, config, compute, rngs)
        self.do = dense(I, H, config, compute, rngs)
        self.fs4 = SSM(config)
        self.bs4 = SSM(config)

    def __call__(
        self, x: jax.Array, mixer: Mixer, operands: tuple[Any, Any], keep: jax.Array | None, B: int
    ) -> jax.Array:
        """Map x `[H, B·L]` (channels first), `[B·L, H]` or `[B, L, H]`.

        `operands` are the mixer's for (forward, backward). `keep` zeroes padding: x's shape, but 1 for H.
        """

        def apply(dense: nnx.Linear, x: jax.Array) -> jax.Array:
            if not self.channels_first:
                return dense(x)
            assert dense.bias is not None
            return linear(dense.kernel[...], dense.bias[...], x, transposed=True)

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
