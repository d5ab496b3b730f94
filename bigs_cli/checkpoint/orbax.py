"""Orbax, and the only file that imports it: a run's training state and its best parameters, step by step.

A checkpoint is a folder named by its step with the items `params`, `ema` (their moving average, where one is kept),
`optimizer` (training states only) and `position` (JSON: what the data loader needs to go on, and counts). Orbax writes
under a temporary name and renames, so that a folder with a step's name is whole.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from bigs_cli.core.errors import RequestError

# Orbax logs every save, which our log has, and errors of its threads, which it also raises where they are waited for.
logging.getLogger("absl").setLevel(logging.CRITICAL)


class Checkpoints:
    """The checkpoints in one folder, the newest `keep` of them kept. Use as a context: leaving it waits for writes."""

    def __init__(self, folder: Path, keep: int = 1) -> None:
        self.folder = folder
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(
        self,
        step: int,
        params: Any,
        optimizer: Any = None,
        position: dict[str, Any] | None = None,
        ema: Any = None,
    ) -> None:
        """Write the checkpoint of `step` in the background; a step already there is left alone."""
        if step in self._manager.all_steps():
            return
        items: dict[str, Any] = {"params": ocp.args.StandardSave(params)}
        if optimizer is not None:
            items["optimizer"] = ocp.args.StandardSave(optimizer)
        if ema is not None:
            items["ema"] = ocp.args.StandardSave(ema)
        if position is not None:
            items["position"] = ocp.args.JsonSave(position)
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, step: int, params: Any, optimizer: Any, ema: Any = None) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Read the state of `step` into the shapes, dtypes and shardings of `params`, `optimizer` and `ema`.

        Return these, `ema` None where it was given as None, and the position.

        Raises:
            RequestError: the checkpoint cannot be read, or holds other shapes.
        """
        trees = {"params": params, "optimizer": optimizer} | ({} if ema is None else {"ema": ema})
        wanted = {name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree)) for name, tree in trees.items()}
        items = ocp.args.Composite(**wanted, position=ocp.args.JsonRestore())
        _compare(self.folder / str(step) / "params", params)
        try:
            read = self._manager.restore(step, args=items)
        except (ValueError, OSError, KeyError) as error:
            raise RequestError(_damaged(self.folder / str(step), error)) from error
        average = None if ema is None else read["ema"]
        return read["params"], read["optimizer"], average, dict(read["position"])

    def wait(self) -> None:
        """Return when every save is on disk."""
        self._manager.wait_until_finished()

    def steps(self) -> list[int]:
        """Return the steps with a checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def remove(self, step: int) -> None:
        """Delete the checkpoint of `step`."""
        self._manager.wait_until_finished()
        self._manager.delete(step)

    def latest(self) -> int | None:
        """Return the newest step, or None when there is none."""
        return self._manager.latest_step()


def steps(folder: Path) -> list[int]:
    """Return the steps with a checkpoint in `folder`, ascending; an absent folder has none."""
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())


def has_average(folder: Path, step: int) -> bool:
    """Return whether the checkpoint of `step` in `folder` has a moving average of the parameters."""
    return (folder / str(step) / "ema").is_dir()


def read_params(folder: Path, shapes: Any) -> tuple[int, Any]:
    """Return (step, parameters) of the newest checkpoint in `folder`, in the tree and shapes of `shapes`.

    These are the moving average of the parameters if the checkpoint has one: see `has_average`.

    Raises:
        RequestError: there is none, it cannot be read, or it holds other shapes.
    """
    found = steps(folder)
    if not found:
        raise RequestError(f"{folder} holds no checkpoint: the run stopped before its first one.")
    place = folder / str(found[-1]) / ("ema" if has_average(folder, found[-1]) else "params")
    _compare(place, shapes)
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        try:
            params = reader.restore(place.absolute(), args=ocp.args.StandardRestore(jax.tree.map(_abstract, shapes)))
        except (ValueError, OSError, KeyError) as error:
            raise RequestError(_damaged(place, error)) from error
    return found[-1], params


def _compare(place: Path, expected: Any) -> None:
    """Refuse parameters at `place` whose names or shapes are not the expected ones; only the metadata is read.

    Orbax would find another shape only while it reads, and leave other reads of its unfinished, with tracebacks.
    """
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        try:
            found = _shapes(reader.metadata(place.absolute()).item_metadata.tree)
        except (ValueError, OSError, KeyError, AttributeError) as error:
            raise RequestError(_damaged(place, error)) from error
    wanted = _shapes(expected)
    differing = sorted(path for path in found.keys() | wanted.keys() if found.get(path) != wanted.get(path))
    if differing:
        path = differing[0]
        one = f"{path} is {found.get(path, 'absent')} there and {wanted.get(path, 'absent')} by config.json"
        raise RequestError(_damaged(place, ValueError(f"{len(differing)} parameters differ ({one})")))


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(str(key.key) for key in path): tuple(leaf.shape) for path, leaf in leaves}


def _abstract(leaf: Any) -> Any:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _damaged(place: Path, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"The checkpoint {place} cannot be read: {reason}. If its run's config.json or recipe.yaml was edited, "
        "undo that; if the files are damaged, remove this checkpoint's folder and use the one before."
    )
