"""The initial value of every parameter, in one table.

| parameter | initial value |
|---|---|
| embeddings; dense kernels of the layers and the pooler | N(0, `initializer_range`²) |
| dense kernels of the heads, `decoder` | LeCun normal: N(0, 1 / fan-in), truncated at two standard deviations |
| LayerNorm scales, D | 1 |
| biases | 0 |
| A_re, A_im | `ssm.initial_state_matrix` of `scaling` |
| C | each component N(0, ½) |
| log_step | log-uniform between `SMALLEST_STEP` and `LARGEST_STEP` |

The distributions are those of the original code (of arXiv 2212.10544). Values are drawn with NumPy, and the random
stream of each parameter is seeded by the seed and its path. They are therefore the same on every backend and mesh, and
nothing is compiled.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.ssm import LARGEST_STEP, SMALLEST_STEP, initial_state_matrix

Array = np.ndarray[Any, np.dtype[np.float32]]
Rule = Callable[[np.random.Generator, tuple[int, ...], BiGSConfig], Array]

_TRUNCATION = 2.0
_TRUNCATED_STD = 0.87962566103423978  # of N(0, 1) truncated at ±2


def _normal(draw: np.random.Generator, shape: tuple[int, ...], config: BiGSConfig) -> Array:
    return draw.standard_normal(shape, np.float32) * np.float32(config.initializer_range)


def _lecun_normal(draw: np.random.Generator, shape: tuple[int, ...], config: BiGSConfig) -> Array:
    values = draw.standard_normal(shape, np.float32)
    while (outside := np.abs(values) > _TRUNCATION).any():
        values[outside] = draw.standard_normal(outside.sum(), np.float32)
    return values / np.float32(_TRUNCATED_STD * np.sqrt(shape[-2]))


def _state_matrix(part: int) -> Rule:
    return lambda draw, shape, config: np.broadcast_to(
        initial_state_matrix(config.scaling, config.num_ssm)[part], shape
    ).astype(np.float32)


def _constant(value: float) -> Rule:
    return lambda draw, shape, config: np.full(shape, value, np.float32)


# First match wins; patterns are searched in the parameter's path.
RULES: tuple[tuple[str, Rule], ...] = (
    (r"/A_re$", _state_matrix(0)),
    (r"/A_im$", _state_matrix(1)),
    (r"/C$", lambda draw, shape, config: draw.standard_normal(shape, np.float32) * np.float32(0.5**0.5)),
    (
        r"/log_step$",
        lambda draw, shape, config: draw.uniform(np.log(SMALLEST_STEP), np.log(LARGEST_STEP), shape).astype(np.float32),
    ),
    (r"/(scale|D)$", _constant(1)),
    (r"/bias$", _constant(0)),
    (r"^(s4_bert/)?(embeddings|encoder|pooler)/", _normal),
    (r"^(cls|classifier|qa_outputs)/", _lecun_normal),
)


def init_parameters(shapes: Any, config: BiGSConfig, seed: int) -> Any:
    """Return a tree of float32 initial values for a tree of shapes, as returned by `functional.parameter_shapes`."""

    def value(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> Array:
        return init_parameter("/".join(str(key.key) for key in path), leaf.shape, config, seed)

    return jax.tree_util.tree_map_with_path(value, shapes)


def init_parameter(path: str, shape: tuple[int, ...], config: BiGSConfig, seed: int) -> Array:
    """Return the float32 initial value of the parameter at `path` in the training tree."""
    rule = next(rule for pattern, rule in RULES if re.search(pattern, path))
    return rule(np.random.default_rng([seed, zlib.crc32(path.encode())]), shape, config)
