"""Devices as a mesh of `data` × `fsdp` × `tensor`, and where each array lies on it.

A batch is split over data × fsdp. A parameter is split by the first line of `RULES` that matches its path; axis
sizes that do not divide a dimension leave it whole.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from bigs_cli.core.errors import RequestError
from bigs_cli.recipe.schema import Mesh as MeshSizes

AXES = ("data", "fsdp", "tensor")

# First match wins. Layers carry a leading layer axis. Maps into the layer split their outputs over `tensor`, maps back
# to the residual stream their inputs, so that one sum over `tensor` ends each pair.
RULES: tuple[tuple[str, P], ...] = (
    (r"word_embeddings/embedding$", P("tensor", "fsdp")),
    (r"(position|token_type)_embeddings/embedding$", P(None, "fsdp")),
    (r"layer/(dv|du_forward|du_backward|dol)/kernel$", P(None, "fsdp", "tensor")),
    (r"layer/(dv|du_forward|du_backward|dol)/bias$", P(None, "tensor")),
    (r"layer/(do|duc_forward|duc_backward)/kernel$", P(None, "tensor", "fsdp")),
    (r"decoder/kernel$", P("fsdp", "tensor")),
    (r"kernel$", P("fsdp", None)),
    (r"", P()),
)


def make_mesh(sizes: MeshSizes) -> jax.sharding.Mesh:
    """Arrange all devices; one size may be −1, "the rest".

    Raises:
        RequestError: the sizes do not multiply to the number of devices.
    """
    count = jax.device_count()
    shape = [sizes.data, sizes.fsdp, sizes.tensor]
    if -1 in shape:
        known = int(np.prod([size for size in shape if size != -1]))
        shape[shape.index(-1)] = max(count // known, 1)
    if int(np.prod(shape)) != count:
        wanted = " × ".join(f"{axis} {size}" for axis, size in zip(AXES, shape, strict=True))
        raise RequestError(f"The mesh {wanted} does not fit the {count} devices here. Change `mesh` in the recipe.")
    return jax.make_mesh(tuple(shape), AXES, axis_types=(AxisType.Auto,) * 3)


def shardings(mesh: jax.sharding.Mesh, tree: Any) -> Any:
    """Return the `NamedSharding` of every array of a tree of parameters, or of an optimizer state made from one."""

    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)
        spec = next(spec for pattern, spec in RULES if re.search(pattern, name))
        return NamedSharding(mesh, _fitting(spec, leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(place, tree)


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Return the sharding of a batch: rows over data × fsdp."""
    return NamedSharding(mesh, P(("data", "fsdp")))


def rows_here(placement: NamedSharding, rows: int) -> np.ndarray[Any, Any]:
    """Return which of a batch's `rows` this process's devices hold, ascending: all of them if it is alone."""
    indices = placement.addressable_devices_indices_map((rows,)).values()
    return np.unique(np.concatenate([np.arange(rows)[index] for index in indices]))


def place(batch: Any, placement: NamedSharding, rows: int, mine: np.ndarray[Any, Any]) -> Any:
    """Lay a batch of `rows`, of which this process has those at `mine` (arrays `[len(mine), …]`), on the mesh."""
    if placement.is_fully_addressable:
        return jax.device_put(batch, placement)

    def one(part: np.ndarray[Any, Any]) -> jax.Array:
        def of_device(index: Any) -> np.ndarray[Any, Any]:
            return part[np.searchsorted(mine, np.arange(rows)[index[0]])]

        return jax.make_array_from_callback((rows, *part.shape[1:]), placement, of_device)

    return jax.tree.map(one, batch)


def check_batch(mesh: jax.sharding.Mesh, rows: int) -> None:
    """Refuse a batch whose rows do not divide over data × fsdp.

    Raises:
        RequestError: they do not.
    """
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % parts:
        raise RequestError(
            f"{rows} rows a step do not divide over {parts} devices. Change the recipe's batch_size or eval_batch_size."
        )


def _fitting(spec: P, shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> P:
    if len(spec) > len(shape):
        return P()
    return P(
        *(axis if axis and size % mesh.shape[axis] == 0 else None for axis, size in zip(spec, shape, strict=False))
    )
