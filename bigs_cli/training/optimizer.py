"""Optimizers with the published decay rule, learning-rate schedules, and a separate group for the SSM parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from bigs_cli.models.functional import Parameters, memoize
from bigs_cli.models.ssm import SSMParameters
from bigs_cli.recipe.schema import Optimizer, Schedule

SSM_NAMES = frozenset(SSMParameters._fields)


DECAYS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "cosine": lambda done: 0.5 * (1 + jnp.cos(jnp.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": jnp.ones_like,
    "wsd": lambda done: 1 - jnp.sqrt(done),
}
"""Name → decay from 1 to 0 over a fraction, 0 to 1, of the steps after the warmup (wsd: of the last steps)."""


@memoize
def learning_rate(schedule: Schedule, peak: float, steps: int) -> optax.Schedule:
    """Return step → learning rate: linear from 0 to `peak` during the warmup, then the decay that `schedule` names.

    A warmup given as a fraction may end between two steps, as in the published fine-tuning. `wsd` decays as 1 − √x,
    with x from 0 to 1 over the last `decay_fraction` of the steps. In Hägele et al. 2024 (arXiv 2405.18392) this ended
    at a lower loss than a linear decay, and 20% of the steps were enough to match cosine.
    """
    warmup, final = schedule.warmup(steps), schedule.min_lr_ratio

    def rate(step: Any) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        start = steps - max(schedule.decay_fraction * steps, 1e-9) if schedule.kind == "wsd" else warmup
        done = jnp.clip((step - start) / max(steps - start, 1e-9), 0.0, 1.0)
        fraction = final + (1 - final) * DECAYS[schedule.kind](done)
        return peak * jnp.where(step < warmup, step / max(warmup, 1e-9), fraction)

    return rate


def decayed(path: tuple[str, ...]) -> bool:
    """Return whether weight decay applies to the parameter, that is, unless it is a bias or a LayerNorm scale.

    As in the original code (jxiw/BiGS on GitHub), it applies to the SSM parameters too.
    """
    return path[-1] not in ("bias", "scale")


def is_ssm(path: tuple[str, ...]) -> bool:
    """Return whether the parameter is in the group `ssm`: A_re, A_im, C, D, log_step."""
    return path[-1] in SSM_NAMES


def frozen(path: tuple[str, ...]) -> bool:
    """Return whether `freeze_ssm` freezes the parameter: the SSM parameters and the token type embeddings."""
    return is_ssm(path) or "token_type_embeddings" in path


def in_layer_kernel(path: tuple[str, ...]) -> bool:
    """Return whether the parameter is a dense kernel of the layers, `[layers, I, O]`."""
    return "layer" in path and path[-1] == "kernel"


def _adam(settings: Optimizer) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=settings.beta1, b2=settings.beta2, eps=settings.epsilon)


def _muon(settings: Optimizer) -> optax.GradientTransformation:
    """Return Muon (K. Jordan et al., 2024) for the dense kernels of the layers, and Adam for all other parameters.

    Each layer of a stacked kernel is orthogonalized on its own. The update of a matrix `[I, O]` is multiplied by
    0.2 √max(I, O), which gives it the root mean square of an AdamW update (Liu et al. 2025, arXiv 2502.16982, §2.2), so
    that one learning rate and one weight decay serve both.
    """

    def matrices(params: Any) -> Any:
        return jax.tree.map(lambda _: contrib.MuonDimensionNumbers(-2, -1), params)

    def scale(updates: Any, params: Any) -> Any:
        return jax.tree.map(lambda update: 0.2 * max(update.shape[-2:]) ** 0.5 * update, updates)

    muon = optax.chain(
        contrib.scale_by_muon(beta=settings.momentum, weight_dimension_numbers=matrices), optax.stateless(scale)
    )
    mask = select(in_layer_kernel)

    def labels(params: Parameters) -> Any:
        return jax.tree.map(lambda is_matrix: "muon" if is_matrix else "adam", mask(params))

    return optax.partition({"muon": muon, "adam": _adam(settings)}, labels)


OPTIMIZERS: dict[str, Callable[[Optimizer], optax.GradientTransformation]] = {"adamw": _adam, "muon": _muon}
"""Name → function that maps a gradient to an update, before weight decay and learning rate."""


@memoize
def make_optimizer(
    settings: Optimizer, lr_schedule: optax.Schedule, freeze_ssm: bool = False
) -> optax.GradientTransformation:
    """Return the named optimizer with clipping, decoupled weight decay and parameter groups.

    `freeze_ssm` zeroes the updates of frozen parameters.
    """
    ssm = settings.ssm
    ssm_decay = settings.weight_decay if ssm.weight_decay is None else ssm.weight_decay
    parts = [OPTIMIZERS[settings.name](settings)]
    if settings.clip_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(settings.clip_norm))
    parts += [
        optax.add_decayed_weights(settings.weight_decay, select(lambda p: decayed(p) and not is_ssm(p))),
        optax.add_decayed_weights(ssm_decay, select(is_ssm)),
        optax.scale_by_learning_rate(lr_schedule),
    ]
    if ssm.lr_multiplier != 1.0:
        parts.append(optax.masked(optax.scale(ssm.lr_multiplier), select(is_ssm)))
    if freeze_ssm:
        parts.append(optax.masked(optax.set_to_zero(), select(frozen)))
    return optax.chain(*parts)


def select(rule: Callable[[tuple[str, ...]], bool]) -> Callable[[Parameters], Any]:
    """Return an optax mask: a function from a parameter tree to a tree of booleans, the values of `rule` by path."""

    def mask(params: Parameters) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: rule(tuple(str(key.key) for key in path)), params)

    return mask
