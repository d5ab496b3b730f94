"""The model as functions of a plain nested dict of arrays: what training, evaluation and loading use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from bigs_cli.models.heads import HEADS, Outputs
from bigs_cli.models.init import init_parameters
from bigs_cli.recipe.config import BiGSConfig
from bigs_cli.recipe.schema import Compute

Parameters = dict[str, Any]
Apply = Callable[..., Outputs]


def module(config: BiGSConfig, compute: Compute, rngs: nnx.Rngs, apart: bool = False) -> nnx.Module:
    """Build the NNX module that `config.head` names."""
    return HEADS[config.head](config, compute, apart=apart, rngs=rngs)


def parameter_shapes(config: BiGSConfig) -> Parameters:
    """Return the parameter tree as `jax.ShapeDtypeStruct`s, layers stacked; nothing is computed."""
    return _state_shapes(config, Compute(), apart=False)[1]


def initialize(config: BiGSConfig, seed: int) -> Parameters:
    """Return fresh parameters by `initial.initial_values`, layers stacked on a leading axis."""
    return jax.tree.map(jnp.array, init_parameters(parameter_shapes(config), config, seed))


def make_apply(config: BiGSConfig, compute: Compute, apart: bool = False) -> Apply:
    """Return `apply(params, input_ids, attention_mask, token_type_ids, key=None, **head's own) -> Outputs`.

    `params` has its layers stacked, or, if `apart`, as `unstack_layers` gives them. Not compiled.
    """
    graph, _ = _state_shapes(config, compute, apart)

    def apply(params: Parameters, *inputs: Any, **named: Any) -> Outputs:
        return nnx.merge(graph, params)(*inputs, **named)

    return apply


def unstack_layers(params: Parameters) -> Parameters:
    """Split the stacked layers into one tree a layer: a forward pass then reads weights where they lie."""
    if "encoder" not in params:
        return {**params, "s4_bert": unstack_layers(params["s4_bert"])}
    layer = params["encoder"]["layer"]
    depth = jax.tree.leaves(layer)[0].shape[0]
    apart = {i: jax.tree.map(lambda a, i=i: a[i], layer) for i in range(depth)}
    return {**params, "encoder": {"layer": apart}}


def count(params: Parameters) -> int:
    """Return the number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _state_shapes(config: BiGSConfig, compute: Compute, apart: bool) -> tuple[Any, Parameters]:
    abstract = nnx.eval_shape(lambda: module(config, compute, nnx.Rngs(0), apart))
    graph, state = nnx.split(abstract)
    return graph, nnx.to_pure_dict(state)
