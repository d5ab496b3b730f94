"""Optimizers with the published weight-decay rule, learning-rate schedules, and a group for the SSM parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike
from optax import contrib

from bigs_cli.models.functional import Parameters, memoize
from bigs_cli.models.matmul import batched_matmul
from bigs_cli.models.ssm import SSMParameters
from bigs_cli.recipe.groups import Optimizer, Schedule

SSM_NAMES = frozenset(SSMParameters._fields)
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of x, (x·xᵀ)·x and (x·xᵀ)²·x in a step of `orthogonalize`."""


DECAYS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "cosine": lambda done: 0.5 * (1 + jnp.cos(jnp.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": jnp.ones_like,
    "wsd": lambda done: 1 - jnp.sqrt(done),
}
"""Name → factor as a function of the completed fraction (0 to 1) of the decay phase.

It falls from 1 to 0, except for `constant`. The decay phase is all steps after the warmup (`wsd`: the last
`decay_fraction` of all steps)."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LearningRate:
    """An optax schedule: linear from 0 to `peak` during the warmup, then the decay from `decay_start` to `steps`.

    Its numbers (float32) are leaves of a pytree: runs that differ only in them share a compiled step.
    """

    kind: str = field(metadata={"static": True})
    peak: Any
    min_lr_ratio: Any
    warmup: Any
    decay_start: Any
    steps: Any

    def __call__(self, step: Any) -> jax.Array:
        """Return the learning rate (float32) of the step after `step` steps."""
        step = jnp.asarray(step, jnp.float32)
        done = (step - self.decay_start) / jnp.maximum(self.steps - self.decay_start, 1e-9)
        decay = DECAYS[self.kind](jnp.clip(done, 0.0, 1.0))
        fraction = self.min_lr_ratio + (1 - self.min_lr_ratio) * decay
        return self.peak * jnp.where(step < self.warmup, step / jnp.maximum(self.warmup, 1e-9), fraction)


def learning_rate(schedule: Schedule, peak: float, steps: int) -> LearningRate:
    """Return the learning rate of a run of `steps` steps.

    A warmup given as a fraction may end between two steps, as in the published fine-tuning. `wsd` decays as 1 − √x,
    with x from 0 to 1 over the last `decay_fraction` of the steps. In Hägele et al. 2024 (arXiv 2405.18392) this ended
    at a lower loss than a linear decay, and 20% of the steps were enough to match cosine.
    """
    warmup = schedule.warmup(steps)
    decay_start = (1 - schedule.decay_fraction) * steps if schedule.kind == "wsd" else warmup
    numbers = (peak, schedule.min_lr_ratio, warmup, decay_start, steps)
    return LearningRate(schedule.kind, *map(np.float32, numbers))


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


def is_layer_kernel(path: tuple[str, ...]) -> bool:
    """Return whether the parameter is a dense kernel of the layers, `[layers, I, O]`."""
    return "layer" in path and path[-1] == "kernel"


def _adam(settings: Optimizer, dtype: str) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=settings.beta1, b2=settings.beta2, eps=settings.epsilon)


def orthogonalize(matrices: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Return U·S'·Vᵀ for matrices U·S·Vᵀ `[..., I, O]`, with all singular values S' near 1, float32.

    Four Newton-Schulz steps with the coefficients of K. Jordan et al. (Muon, 2024), the first after the preconditioning
    of Boissin et al. 2025 (arXiv 2512.04632), with which they are as exact as the usual five steps. The products use
    `dtype`; their sums are float32.
    """
    x = matrices.astype(jnp.float32)
    if transposed := x.shape[-2] > x.shape[-1]:
        x = x.swapaxes(-1, -2)
    linear, cubic, quintic = NEWTON_SCHULZ
    for step in range(4):
        rounded = x.astype(dtype)
        gram = batched_matmul(rounded, rounded, transposed=True)
        if step == 0:
            scale = jax.lax.rsqrt(jnp.maximum(jnp.abs(gram).sum(-1, keepdims=True), 1e-8))
            x, gram = x * scale, gram * scale * scale.swapaxes(-1, -2)
            rounded = x.astype(dtype)
        square = batched_matmul(gram.astype(dtype), gram.astype(dtype))
        x = linear * x + batched_matmul((cubic * gram + quintic * square).astype(dtype), rounded)
    return x.swapaxes(-1, -2) if transposed else x


def _muon(settings: Optimizer, dtype: str) -> optax.GradientTransformation:
    """Return Muon (K. Jordan et al., 2024) for the dense kernels of the layers, and Adam for all other parameters.

    Each layer of a stacked kernel is orthogonalized on its own. The update of a matrix `[I, O]` is multiplied by 0.2
    √max(I, O), which gives it the root mean square of an AdamW update (Liu et al. 2025, arXiv 2502.16982, §2.2), so
    that one learning rate and one weight decay serve both.
    """

    def matrices(params: Any) -> Any:
        return jax.tree.map(lambda _: contrib.MuonDimensionNumbers(-2, -1), params)

    def scaled(updates: Any, params: Any) -> Any:
        return jax.tree.map(lambda m: 0.2 * max(m.shape[-2:]) ** 0.5 * orthogonalize(m, dtype), updates)

    # Without a Newton-Schulz step, this is Muon's momentum.
    momentum = contrib.scale_by_muon(
        beta=settings.momentum, ns_steps=0, preconditioning="aol", weight_dimension_numbers=matrices
    )
    muon = optax.chain(momentum, optax.stateless(scaled))
    mask = select(is_layer_kernel)

    def labels(params: Parameters) -> Any:
        return jax.tree.map(lambda is_matrix: "muon" if is_matrix else "adam", mask(params))

    return optax.partition({"muon": muon, "adam": _adam(settings, dtype)}, labels)


OPTIMIZERS: dict[str, Callable[[Optimizer, str], optax.GradientTransformation]] = {"adamw": _adam, "muon": _muon}
"""Name → function that maps a gradient to an update, before weight decay and learning rate.

Its arguments are the settings and `compute.dtype`."""


def _scale_by_learning_rate() -> optax.GradientTransformationExtraArgs:
    """Return `optax.scale_by_learning_rate` with the learning rate as an argument of `update`, and the same state."""

    def init(params: Any) -> optax.ScaleByScheduleState:
        return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        updates = jax.tree.map(lambda update: -extra["learning_rate"] * update, updates)
        return updates, optax.ScaleByScheduleState(count=optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


def _decay_by_layer(decay: float) -> optax.GradientTransformation:
    """Multiply the updates of the head by 1, of the top layer by `decay`, of the one below by `decay`², …

    Those of the embeddings are multiplied by `decay` to the number of layers + 1, as in BEiT (Bao et al. 2022,
    arXiv 2106.08254).
    """

    def scale(updates: Any, params: Any) -> Any:
        depth = next(len(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params) if _part(path) == "layer")

        def scaled(path: Any, update: jax.Array) -> jax.Array:
            part = _part(path)
            if part == "layer":
                rates = np.float32(decay) ** np.arange(depth, 0, -1, dtype=np.float32)
                return update * rates.reshape(-1, *(1 for _ in update.shape[1:]))
            return update * np.float32(decay) ** (depth + 1) if part == "embeddings" else update

        return jax.tree_util.tree_map_with_path(scaled, updates)

    return optax.stateless(scale)


def _part(path: Any) -> str:
    """Return the part of the model that has the parameter: layer, embeddings, or another."""
    names = [str(key.key) for key in path]
    return next((name for name in names if name in ("layer", "embeddings")), "head")


def make_optimizer(
    settings: Optimizer, freeze_ssm: bool = False, dtype: str = "float32"
) -> optax.GradientTransformationExtraArgs:
    """Return the named optimizer with clipping, decoupled weight decay and parameter groups.

    Its `update` takes the learning rate as the argument `learning_rate`. `freeze_ssm` zeroes the updates of frozen
    parameters. `dtype` is the type of matrix products in the update; parameters and state are float32.
    """
    return _make_optimizer(settings.model_copy(update={"learning_rate": 1.0}), freeze_ssm, dtype)


@memoize
def _make_optimizer(settings: Optimizer, freeze_ssm: bool, dtype: str) -> optax.GradientTransformationExtraArgs:
    ssm = settings.ssm
    ssm_decay = settings.weight_decay if ssm.weight_decay is None else ssm.weight_decay
    parts = [OPTIMIZERS[settings.name](settings, dtype)]
    if settings.clip_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(settings.clip_norm))
    parts += [
        optax.add_decayed_weights(settings.weight_decay, select(lambda p: decayed(p) and not is_ssm(p))),
        optax.add_decayed_weights(ssm_decay, select(is_ssm)),
        _scale_by_learning_rate(),
    ]
    if settings.layer_decay != 1.0:
        parts.append(_decay_by_layer(settings.layer_decay))
    if ssm.lr_multiplier != 1.0:
        parts.append(optax.masked(optax.scale(ssm.lr_multiplier), select(is_ssm)))
    if freeze_ssm:
        parts.append(optax.masked(optax.set_to_zero(), select(frozen)))
    return optax.with_extra_args_support(optax.chain(*parts))


def select(rule: Callable[[tuple[str, ...]], bool]) -> Callable[[Parameters], Any]:
    """Return an optax mask: a function from a parameter tree to a tree of booleans, the values of `rule` by path."""

    def mask(params: Parameters) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: rule(tuple(str(key.key) for key in path)), params)

    return mask
