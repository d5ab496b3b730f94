"""Activations stay split by rows of the batch, on whatever mesh the model runs.

Where a parameter is split over the same devices as the rows, the compiler could as well gather the activations, which
are many times larger, and add up parts of products. Said at every dense map, it gathers that map's parameters instead.
"""

from __future__ import annotations

import jax
from jax.sharding import PartitionSpec

ROW_AXES = ("data", "fsdp")
"""The axes of a mesh over which the rows of a batch are split."""


def constrain_batch_sharding(x: jax.Array, axis: int) -> jax.Array:
    """Return x, its `axis`, which counts rows (or tokens, a row's together), split over the rows' axes of the mesh.

    The mesh is the one that is set (`jax.set_mesh`); without one, x is returned as it is.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not set(ROW_AXES) <= set(mesh.axis_names):
        return x
    spec: list[str | tuple[str, ...] | None] = [PartitionSpec.UNCONSTRAINED] * x.ndim  # pyright: ignore[reportAssignmentType]
    spec[axis] = ROW_AXES
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))
