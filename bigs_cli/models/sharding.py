"""The device mesh `data` × `fsdp` × `tensor`, and how each array is sharded on it.

Batches and activations are sharded by rows over data × fsdp. A parameter is sharded by the first row of `RULES` that
matches its path; a dimension that is not divisible by its axis size is replicated.
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
ROW_AXES = ("data", "fsdp")
"""The mesh axes over which the rows of a batch are sharded."""

# First match wins. Layers have a leading layer axis. Dense layers that read the residual stream shard their outputs
# over `tensor`, and those that write to it shard their inputs, so that each pair needs only one sum over `tensor`.
RULES: tuple[tuple[str, P], ...] = (
    (r"word_embeddings/embedding$", P("tensor", "fsdp")),
    (r"(position|token_type)_embeddings/embedding$", P(None, "fsdp")),
    (r"layer/(dv|du_forward|du_backward|dol|query|key|value|intermediate)/kernel$", P(None, "fsdp", "tensor")),
    (r"layer/(dv|du_forward|du_backward|dol|query|key|value|intermediate)/bias$", P(None, "tensor")),
    (r"layer/(do|duc_forward|duc_backward|attention_output|output)/kernel$", P(None, "tensor", "fsdp")),
    (r"decoder/kernel$", P("fsdp", "tensor")),
    (r"kernel$", P("fsdp", None)),
    (r"", P()),
)


def make_mesh(sizes: MeshSizes) -> jax.sharding.Mesh:
    """Arrange all devices in a mesh; one size may be −1, which takes all remaining devices.

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
    """Return the `NamedSharding` of every array of a tree of parameters, or of an optimizer state built from one."""

    def sharding_of(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)
        spec = next(spec for pattern, spec in RULES if re.search(pattern, name))
        return NamedSharding(mesh, _fitting(spec, leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(sharding_of, tree)


def constrain_batch_sharding(x: jax.Array, axis: int) -> jax.Array:
    """Shard the `axis` of x that indexes rows (or the tokens of all rows) over `ROW_AXES`.

    Uses the mesh set by `jax.set_mesh`; without one, x is returned unchanged. Every dense layer constrains its result:
    otherwise the compiler may gather the activations instead of the sharded parameters, which are much smaller.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not set(ROW_AXES) <= set(mesh.axis_names):
        return x
    spec: list[Any] = [P.UNCONSTRAINED] * x.ndim
    spec[axis] = ROW_AXES
    return jax.lax.with_sharding_constraint(x, P(*spec))


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Return the sharding of a batch: rows over data × fsdp."""
    return NamedSharding(mesh, P(ROW_AXES))


def rows_here(placement: NamedSharding, rows: int) -> np.ndarray[Any, Any]:
    """Return the indices, ascending, of the rows of a batch that the devices of this process hold."""
    indices = placement.addressable_devices_indices_map((rows,)).values()
    return np.unique(np.concatenate([np.arange(rows)[index] for index in indices]))


def place(batch: Any, placement: NamedSharding, rows: int, mine: np.ndarray[Any, Any]) -> Any:
    """Place a batch of `rows` rows on the mesh; `batch` has only the rows `mine` of this process, `[len(mine), …]`."""
    if placement.is_fully_addressable:
        return jax.device_put(batch, placement)

    def place_array(array: np.ndarray[Any, Any]) -> jax.Array:
        def device_rows(index: Any) -> np.ndarray[Any, Any]:
            return array[np.searchsorted(mine, np.arange(rows)[index[0]])]

        return jax.make_array_from_callback((rows, *array.shape[1:]), placement, device_rows)

    return jax.tree.map(place_array, batch)


def check_batch(mesh: jax.sharding.Mesh, rows: int) -> None:
    """Check that data × fsdp divides the number of rows of a batch.

    Raises:
        RequestError: it does not.
    """
    parts = int(np.prod([mesh.shape[axis] for axis in ROW_AXES]))
    if rows % parts:
        raise RequestError(
            f"{rows} rows per step cannot be split evenly over {parts} devices. Change batch_size or eval_batch_size."
        )


def _fitting(spec: P, shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> P:
    if len(spec) > len(shape):
        return P()
    return P(
        *(axis if axis and size % mesh.shape[axis] == 0 else None for axis, size in zip(spec, shape, strict=False))
    )
