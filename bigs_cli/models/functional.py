"""The model as pure functions of a nested dict of arrays, for training, inference, loading and export."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from flax import nnx

from bigs_cli.models.blocks import Mix
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.encoder import unstack
from bigs_cli.models.heads import HEADS, Outputs
from bigs_cli.models.init import init_parameters
from bigs_cli.recipe.groups import Compute

Parameters = dict[str, Any]
Apply = Callable[..., Outputs]
Function = TypeVar("Function", bound=Callable[..., Any])


def memoize(make: Function) -> Function:
    """Make `make` return the same function for equal arguments, so that JAX traces and compiles it only once."""
    return cast(Function, functools.lru_cache(maxsize=32)(make))


@memoize
def parameter_shapes(config: BiGSConfig) -> Parameters:
    """Return the parameter tree as `jax.ShapeDtypeStruct`s, with layers stacked; nothing is computed.

    Do not modify the tree: equal configs have the same one.
    """
    return _graph_and_shapes(config, Compute(), unstacked=False)[1]


def initialize(config: BiGSConfig, seed: int) -> Parameters:
    """Return the initial parameters (`init.init_parameters`), layers stacked on a leading axis."""
    return jax.tree.map(jnp.array, init_parameters(parameter_shapes(config), config, seed))


@memoize
def make_apply(config: BiGSConfig, compute: Compute, unstacked: bool = False) -> Apply:
    """Return `apply(params, input_ids, attention_mask, token_type_ids, key=None, *, mixing=None, **named) -> Outputs`.

    `params` has stacked layers or, if `unstacked`, the form that `unstack_layers` returns. `mixing` is the attribute of
    `encoder.Encoder`; `named` are further arguments of the head. The function is not compiled.
    """
    graph, _ = _graph_and_shapes(config, compute, unstacked)

    def apply(
        params: Parameters,
        *inputs: Any,
        mixing: Callable[[int], tuple[Mix, Mix]] | None = None,
        **named: Any,
    ) -> Outputs:
        model = nnx.merge(graph, params)
        getattr(model, "s4_bert", model).encoder.mixing = mixing
        return model(*inputs, **named)

    return apply


def unstack_layers(params: Parameters) -> Parameters:
    """Split stacked layers into one tree per layer: a forward pass then reads the weights in place."""
    if "encoder" not in params:
        return {**params, "s4_bert": unstack_layers(params["s4_bert"])}
    layer = params["encoder"]["layer"]
    return {**params, "encoder": {"layer": dict(enumerate(unstack(layer, len(jax.tree.leaves(layer)[0]))))}}


def count(params: Parameters) -> int:
    """Return the number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _graph_and_shapes(config: BiGSConfig, compute: Compute, unstacked: bool) -> tuple[Any, Parameters]:
    """Return the graph and the abstract parameters of the module that `config.head` names."""
    module = nnx.eval_shape(lambda: HEADS[config.head](config, compute, unstacked=unstacked, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(module)
    return graph, nnx.to_pure_dict(state)
