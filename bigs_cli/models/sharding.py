"""The device mesh `data` × `fsdp` × `sequence` × `tensor`, and how each array is sharded on it.

Batches are sharded by rows over data × fsdp, and activations also by segments of the rows over `sequence`. A parameter
is sharded by the first row of `RULES` that matches its path; a dimension that is not divisible by its axis size is
replicated.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from bigs_cli.core.errors import RequestError
from bigs_cli.recipe.groups import Mesh as MeshSizes

AnyMesh = jax.sharding.Mesh | AbstractMesh
AXES = ("data", "fsdp", "sequence", "tensor")
ROW_AXES = ("data", "fsdp")
"""The mesh axes over which the rows of a batch are sharded."""
SEQUENCE = "sequence"
"""The mesh axis over which the segments of each row are sharded."""

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
    shape = [getattr(sizes, axis) for axis in AXES]
    if -1 in shape:
        known = int(np.prod([size for size in shape if size != -1]))
        shape[shape.index(-1)] = max(count // known, 1)
    if int(np.prod(shape)) != count:
        wanted = " × ".join(f"{axis} {size}" for axis, size in zip(AXES, shape, strict=True))
        raise RequestError(f"The mesh {wanted} does not fit the {count} devices here. Change `mesh` in the recipe.")
    return jax.make_mesh(tuple(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def planned_mesh(sizes: MeshSizes) -> AnyMesh:
    """Return the mesh of a run on this machine or, if it is for another number of devices, one without devices.

    Without devices, a size of −1 becomes 1.
    """
    try:
        return make_mesh(sizes)
    except RequestError:
        shape = tuple(max(getattr(sizes, axis), 1) for axis in AXES)
        return AbstractMesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def shardings(mesh: AnyMesh, tree: Any) -> Any:
    """Return the `NamedSharding` of every array of a tree of parameters, or of an optimizer state built from one."""

    def sharding_of(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)
        spec = next(spec for pattern, spec in RULES if re.search(pattern, name))
        return NamedSharding(mesh, _fitting(spec, leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(sharding_of, tree)


@dataclass(frozen=True)
class TokenLayout:
    """The order of the tokens of `[B, L, C]` in a channels-first array `[C, B·L]`.

    The array is sharded over `row_shards` × `segments` devices. Each holds one segment (L / segments consecutive
    tokens) of each of its B / row_shards rows, so the tokens are ordered by shard, segment, row in the shard, and
    position in the segment.
    """

    B: int
    L: int
    row_shards: int = 1
    segments: int = 1

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """The sizes of the four axes into which the tokens are ordered."""
        return self.row_shards, self.segments, self.B // self.row_shards, self.L // self.segments

    def enter(self, x: jax.Array) -> jax.Array:
        """Map `[B, L, C]` to `[C, B·L]`."""
        if self.segments == 1:
            return x.reshape(self.B * self.L, -1).T
        D, S, rows, length = self.parts
        return x.reshape(D, rows, S, length, -1).transpose(4, 0, 2, 1, 3).reshape(-1, self.B * self.L)

    def leave(self, x: jax.Array) -> jax.Array:
        """Map `[C, B·L]` to `[B, L, C]`."""
        if self.segments == 1:
            return jnp.moveaxis(x.reshape(-1, self.B, self.L), 0, -1)
        return x.reshape(-1, *self.parts).transpose(1, 3, 2, 4, 0).reshape(self.B, self.L, -1)


def token_layout(B: int, L: int) -> TokenLayout:
    """Return the layout of `[B, L]` tokens on the mesh set by `jax.set_mesh`: one segment if there is none, or if
    the tokens cannot be split evenly.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not set(AXES) <= set(mesh.axis_names):
        return TokenLayout(B, L)
    rows, segments = math.prod(mesh.shape[axis] for axis in ROW_AXES), mesh.shape[SEQUENCE]
    return TokenLayout(B, L) if B % rows or L % segments else TokenLayout(B, L, rows, segments)


def constrain_rows(x: jax.Array) -> jax.Array:
    """Shard the first axis of x, the rows of a batch, over `ROW_AXES`.

    Uses the mesh set by `jax.set_mesh`; without one, x is returned unchanged. Every dense layer constrains its result:
    otherwise the compiler may gather the activations instead of the sharded parameters, which are much smaller.
    """
    return _constrain(x, {0: ROW_AXES})


def constrain_row_segments(x: jax.Array) -> jax.Array:
    """Shard x `[B, L, …]` by rows and, over `SEQUENCE`, by segments; otherwise as `constrain_rows`."""
    return _constrain(x, {0: ROW_AXES, 1: (SEQUENCE,)})


def gather_table(table: jax.Array) -> jax.Array:
    """Gather the columns of an embedding table `[V, H]` if the mesh splits rows into segments.

    Otherwise the compiler looks up a part of every vector, and gathers the vectors of all rows on every device.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.shape.get(SEQUENCE, 1) == 1:
        return table
    return jax.lax.with_sharding_constraint(table, P(P.UNCONSTRAINED, None))


def constrain_tokens(x: jax.Array) -> jax.Array:
    """Shard the tokens of x `[C, B·L]` in the order of `TokenLayout`; otherwise as `constrain_rows`."""
    return _constrain(x, {1: (*ROW_AXES, SEQUENCE)})


def _constrain(x: jax.Array, axes: dict[int, tuple[str, ...]]) -> jax.Array:
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not set(AXES) <= set(mesh.axis_names):
        return x
    spec: list[Any] = [P.UNCONSTRAINED] * x.ndim
    for axis, names in axes.items():
        if x.shape[axis] % math.prod(mesh.shape[name] for name in names) == 0:
            spec[axis] = names
    return jax.lax.with_sharding_constraint(x, P(*spec))


def batch_sharding(mesh: AnyMesh) -> NamedSharding:
    """Return the sharding of a batch: rows over data × fsdp."""
    return NamedSharding(mesh, P(ROW_AXES))


def all_devices() -> jax.sharding.Mesh | None:
    """Return a mesh that splits the rows of a batch over all devices, or None if there is one device."""
    return make_mesh(MeshSizes()) if jax.device_count() > 1 else None


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Place a tree of arrays, which are the same in every process."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put_array(array: Any) -> jax.Array:
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

    return jax.tree.map(put_array, tree)


def replicate(tree: Any, mesh: jax.sharding.Mesh | None) -> Any:
    """Copy a tree of arrays to every device of a mesh; without one, return it unchanged."""
    return tree if mesh is None else put(tree, NamedSharding(mesh, P()))


def result_sharding(mesh: jax.sharding.Mesh | None) -> NamedSharding | None:
    """Return the sharding with which every process can read the results of a computation; None: any sharding."""
    whole = None if mesh is None else NamedSharding(mesh, P())
    return None if whole is None or whole.is_fully_addressable else whole


def split_rows(batch: Any, mesh: jax.sharding.Mesh | None) -> Any:
    """Place a batch on a mesh: split by rows or, if they do not divide evenly, whole on every device."""
    if mesh is None:
        return batch
    parts = math.prod(mesh.shape[axis] for axis in ROW_AXES)
    even = all(len(array) % parts == 0 for array in jax.tree.leaves(batch))
    return put(batch, batch_sharding(mesh)) if even else replicate(batch, mesh)


@functools.lru_cache
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


def check_batch(mesh: AnyMesh, rows: int, length: int) -> None:
    """Check that data × fsdp divides the number of rows of a batch, and `sequence` their length in tokens.

    Raises:
        RequestError: they do not.
    """
    parts = int(np.prod([mesh.shape[axis] for axis in ROW_AXES]))
    if rows % parts:
        raise RequestError(
            f"{rows} rows per step cannot be split evenly over {parts} devices. Change batch_size or eval_batch_size."
        )
    if length % mesh.shape[SEQUENCE]:
        raise RequestError(
            f"Rows of {length} tokens cannot be split evenly over {mesh.shape[SEQUENCE]} devices. Change mesh.sequence."
        )


def _fitting(spec: P, shape: tuple[int, ...], mesh: AnyMesh) -> P:
    if len(spec) > len(shape):
        return P()
    return P(
        *(axis if axis and size % mesh.shape[axis] == 0 else None for axis, size in zip(spec, shape, strict=False))
    )
