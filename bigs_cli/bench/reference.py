"""References for benchmarks and tests: mixing by FFT and by recurrence, and the computation of the original code."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bigs_cli.models.blocks import Mix
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import Apply, Parameters, make_apply
from bigs_cli.models.heads import Outputs
from bigs_cli.models.mixers import MIXERS, Mixer, kernel_with_skip, mix_channels_last
from bigs_cli.models.ssm import DiscreteSSM, SSMParameters, discretize, powers
from bigs_cli.recipe.groups import Compute


def _mix_fft(K: jax.Array, u: jax.Array, reverse: bool) -> jax.Array:
    """Convolve with an FFT of length 2L in float32, as in the original code."""
    L = u.shape[-1]
    kernel_spectrum = jnp.fft.rfft(K, n=2 * L)
    if reverse:  # correlation instead of convolution
        kernel_spectrum = kernel_spectrum.conj()
    spectrum = jnp.fft.rfft(u.astype(jnp.float32), n=2 * L)
    return jnp.fft.irfft(spectrum * kernel_spectrum, n=2 * L)[..., :L].astype(u.dtype)


def _fft_flops(L: int, N: int) -> float:
    """Two real transforms of length 2L, each counted as 2.5 · 2L · log2(2L), and L + 1 complex products."""
    return 2 * 2.5 * 2 * L * math.log2(2 * L) + 6 * (L + 1)


class RecurrenceOperands(NamedTuple):
    """Operands of the recurrence: pole e^{sA} `[2, N]`, weight `[2, N]` (real, imaginary), D `[1]`."""

    pole: jax.Array
    weight: jax.Array
    skip: jax.Array


def _recurrence_operands(ssm: DiscreteSSM, L: int) -> RecurrenceOperands:
    pole_re, pole_im = powers(ssm, 1, 1)
    return RecurrenceOperands(jnp.concatenate([pole_re, pole_im], -2), jnp.stack(ssm.weight, -2), ssm.skip)


def _mix_recurrence(operands: RecurrenceOperands, u: jax.Array, reverse: bool) -> jax.Array:
    """x_l = e^{sA} x_{l−1} + u_l, y_l = Re(w · x_l) + D u_l: the definition, token by token."""
    pole = jax.lax.complex(operands.pole[0], operands.pole[1])
    weight = jax.lax.complex(operands.weight[0], operands.weight[1])

    def step(x: jax.Array, u_l: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = pole * x + u_l[..., None]
        return x, (weight * x).real.sum(-1) + operands.skip * u_l

    start = jnp.zeros((*u.shape[:-1], pole.shape[0]), jnp.complex64)
    _, y = jax.lax.scan(step, start, jnp.moveaxis(u.astype(jnp.float32), -1, 0), reverse=reverse)
    return jnp.moveaxis(y, 0, -1).astype(u.dtype)


def _recurrence_flops(L: int, N: int) -> float:
    """Per token and state: a complex product (6), a complex sum (2), and the real part of a product and its sum (4)."""
    return 12 * L * N


REFERENCES: dict[str, Mixer] = {
    "fft": Mixer(kernel_with_skip, _mix_fft, _fft_flops),
    "recurrence": Mixer(_recurrence_operands, _mix_recurrence, _recurrence_flops),
}
ALL_MIXERS = {**MIXERS, **REFERENCES}


def make_reference_apply(config: BiGSConfig, mixer: Mixer = REFERENCES["fft"]) -> Apply:
    """Return `apply(params, input_ids, …)` for unstacked `params`, with the method of the original code.

    Activations are float32 `[B, L, H]`, layers are unrolled, and `mixer` is used for mixing.
    """
    apply = make_apply(config, Compute(), unstacked=True)

    def reference_apply(params: Parameters, input_ids: jax.Array, *inputs: Any, **named: Any) -> Outputs:
        layers = params.get("s4_bert", params)["encoder"]["layer"]

        def mix(index: int, direction: str) -> Mix:
            ssm = discretize(SSMParameters(**layers[index][direction]))
            operands, reverse = mixer.operands(ssm, input_ids.shape[-1]), direction == "bs4"
            return lambda u: mix_channels_last(mixer, operands, u, reverse)

        def mixing(index: int) -> tuple[Mix, Mix]:
            return mix(index, "fs4"), mix(index, "bs4")

        return apply(params, input_ids, *inputs, mixing=mixing, **named)

    return reference_apply
