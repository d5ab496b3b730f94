"""Arrays whose parts are in several processes, as whole arrays in process 0, and back.

Only process 0 reads and writes the files of a run, so the other processes need no access to its folder.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from bigs_cli.core.processes import is_main_process, several, share_bytes


def gathered(tree: Any) -> Any:
    """Return the values of a tree of arrays in process 0, and None for each in the others.

    All processes must call this function. A single process gets `tree` itself.
    """
    return jax.tree.map(_gathered, tree) if several() else tree


def distributed(tree: Any, like: Any) -> Any:
    """Return the values of the `tree` of process 0 with the shardings of `like`, a tree of arrays of the same shapes.

    All processes must call this function; in the others, `tree` is ignored. A single process gets `tree` itself.
    """
    if not several():
        return tree
    leaves = jax.tree.leaves(tree) if is_main_process() else []
    places, structure = jax.tree.flatten(like)
    return structure.unflatten(
        _distributed(leaves[number] if leaves else None, place) for number, place in enumerate(places)
    )


def _gathered(array: jax.Array) -> Any:
    if not array.is_fully_replicated:
        mesh = array.sharding.mesh  # pyright: ignore[reportAttributeAccessIssue]
        array = jax.jit(_itself, out_shardings=jax.NamedSharding(mesh, jax.P()))(array)
    return np.asarray(array.addressable_data(0)) if is_main_process() else None


def _itself(array: jax.Array) -> jax.Array:
    return array


def _distributed(value: Any, like: jax.Array) -> jax.Array:
    sent = b"" if value is None else np.ascontiguousarray(value).tobytes()
    whole = np.frombuffer(share_bytes(sent, like.nbytes), like.dtype).reshape(like.shape)
    return jax.make_array_from_callback(like.shape, like.sharding, lambda part: whole[part])
