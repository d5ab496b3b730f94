"""`--dry-run`: what a pretraining would take and how it would lie on the devices, from shapes alone."""

from __future__ import annotations

import math
import re
from typing import Any

import jax
import numpy as np
from rich.table import Table

from bigs_cli.data.hdf5 import Corpus
from bigs_cli.evaluation.mlm import as_batch
from bigs_cli.model.flops import count_flops
from bigs_cli.model.functional import parameter_shapes
from bigs_cli.recipe import PretrainRecipe
from bigs_cli.reporting.console import table
from bigs_cli.training import mesh as meshes
from bigs_cli.training.optimizer import learning_rate, make_optimizer
from bigs_cli.training.pretrain import check_shards
from bigs_cli.training.state import TrainState, new_state


def preview(recipe: PretrainRecipe, shards: Corpus) -> list[Table]:
    """Return two tables: sizes and arithmetic, and the sharding of parameters. No array of the model's size is made.

    Raises:
        RequestError: recipe, shards and devices do not go together: the run would be refused as well.
    """
    check_shards(recipe, shards)
    mesh = meshes.make_mesh(recipe.mesh)
    meshes.check_batch(mesh, recipe.batch_size // recipe.accumulate)
    params = parameter_shapes(recipe.model)
    rate = learning_rate(recipe.schedule, recipe.optimizer.learning_rate, recipe.steps)
    state: TrainState = jax.eval_shape(lambda params: new_state(params, make_optimizer(recipe.optimizer, rate)), params)
    return [_sizes(recipe, shards, mesh, state), _shardings(mesh, params)]


def _sizes(recipe: PretrainRecipe, shards: Corpus, mesh: jax.sharding.Mesh, state: TrainState) -> Table:
    row = as_batch(shards.split("train").take(np.zeros(1, np.int64)))
    batch = {name: jax.ShapeDtypeStruct((recipe.batch_size, *a.shape[1:]), a.dtype) for name, a in row.items()}
    L = recipe.data.sequence_length
    predictions = row["positions"].shape[1] if "positions" in row else recipe.masking.predictions(L)
    flops = count_flops(recipe.model, L, recipe.compute.mixing, predictions)
    step, steps = flops.training * recipe.batch_size, recipe.steps
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    shape = " × ".join(f"{axis} {count}" for axis, count in mesh.shape.items())
    params_bytes = _bytes(state.params, meshes.shardings(mesh, state.params))
    optimizer_bytes = _bytes(state.optimizer, meshes.shardings(mesh, state.optimizer))
    batch_bytes = _bytes(batch, jax.tree.map(lambda _: meshes.batch_sharding(mesh), batch))
    made = table("what it takes", "what", "how much", "", right=("how much",))
    for line in (
        ("parameters", f"{size:,}", ""),
        ("devices", str(mesh.size), f"{mesh.devices.flat[0].device_kind}: {shape}"),
        ("parameters on each device", _size(params_bytes), "and as much for the gradient"),
        ("optimizer state on each device", _size(optimizer_bytes), ""),
        ("batch on each device", _size(batch_bytes), "activations come on top: they depend on compute.remat"),
        ("steps", f"{steps:,}", f"{recipe.batch_size * L:,} tokens each, {recipe.batch_size * L * steps:.3g} in all"),
        ("FLOPs per step", f"{step:.3e}", f"{step * steps:.3e} in all"),
        ("  dense maps", f"{flops.dense / flops.forward:.1%}", ""),
        ("  mixing", f"{flops.mixing / flops.forward:.1%}", recipe.compute.mixing),
        ("  head", f"{flops.head / flops.forward:.1%}", f"at {predictions} places in a row"),
    ):
        made.add_row(*line)
    return made


def _shardings(mesh: jax.sharding.Mesh, params: Any) -> Table:
    """Return one row for each kind of parameter: those of one rule that are split alike."""
    rows: dict[tuple[str, str], list[Any]] = {}
    for (path, leaf), sharding in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(meshes.shardings(mesh, params)), strict=True
    ):
        name = "/".join(str(key.key) for key in path)
        rule = next(pattern for pattern, _ in meshes.RULES if re.search(pattern, name))
        split = ", ".join(str(axis) if axis else "–" for axis in sharding.spec if len(sharding.spec))
        rows.setdefault((rule or "everything else", split or "whole on every device"), []).append(leaf)
    made = table("how parameters lie", "path", "split over", "arrays", "parameters", right=("arrays", "parameters"))
    for (rule, split), leaves in rows.items():
        made.add_row(rule, split, str(len(leaves)), f"{sum(leaf.size for leaf in leaves):,}")
    return made


def _bytes(tree: Any, shardings: Any) -> int:
    """Return what the arrays of `tree` take on one device."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True)
    return sum(math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf, place in pairs)


def _size(count: int) -> str:
    power = min((len(str(count)) - 1) // 3, 3)
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"
