"""Checkpoints of training states and of the best parameters of a run. The only module that imports Orbax.

A checkpoint is a folder named by its step, with the items `params`, `ema` (the moving average of the parameters, if
there is one), `optimizer` (training states only) and `position` (JSON: the loop state, which is the state of the data
loader, and counters), and checksums. Orbax writes to a temporary name and renames the folder, so a folder named by a
step is complete. If a checkpoint is corrupt, the previous one is used; a run that resumes from it renames the corrupt
one to STEP.damaged.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from bigs_cli.checkpoints.checksums import find_corruption, read_score, steps, write_checksums
from bigs_cli.checkpoints.gather import distributed, gathered
from bigs_cli.core.errors import BigsError, RequestError, first_line, listed
from bigs_cli.core.paths import plain_path
from bigs_cli.core.processes import is_main_process, several, share

Warn = Callable[[str], object]
Shapes = dict[str, tuple[int, ...]]

# Orbax logs every save, and errors of its threads, which it also raises in `wait`.
for _name in ("absl", "asyncio"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


def _unraisable_hook(error: sys.UnraisableHookArgs, previous: Callable[..., object] = sys.unraisablehook) -> None:
    """Suppress the tracebacks of TensorStore for the unfinished writes of a failed save."""
    if not (isinstance(error.exc_value, RuntimeError) and str(error.exc_value) == "Event loop is closed"):
        previous(error)


sys.unraisablehook = _unraisable_hook


@dataclass(frozen=True)
class Keep:
    """Which checkpoints to keep: the `newest` n, multiples of `every` steps, and, if `best`, the lowest score."""

    newest: int = 1
    every: int | None = None
    best: bool = False

    def kept(self, scores: dict[int, float | None]) -> set[int]:
        """Return which of the ascending steps in `scores` to keep. In a tie, the earliest is the best."""
        kept = {*list(scores)[-self.newest :]}
        if self.every:
            kept |= {step for step in scores if step % self.every == 0}
        known = {step: value for step, value in scores.items() if value is not None}
        if self.best and known:
            kept.add(min(known, key=known.__getitem__))
        return kept


class Checkpoints:
    """The checkpoints in a folder; `keep` selects those to keep. Leaving the context waits for all writes.

    With several processes, all must call its methods in the same order, except `newest`. Only process 0 reads and
    writes files: the values of arrays travel over the network.
    """

    def __init__(self, folder: Path, keep: Keep = Keep()) -> None:
        self.folder = folder
        self._keep = keep
        self.scores = {step: read_score(folder / str(step)) for step in steps(folder)}
        self._saving = -1
        self._shapes: dict[str, Shapes] = {}
        self._closing = contextlib.ExitStack()
        self._manager = None
        if not is_main_process():
            return
        folder.mkdir(parents=True, exist_ok=True)  # Orbax cannot create the folder through a symbolic link.
        self._manager = ocp.CheckpointManager(
            self._closing.enter_context(plain_path(folder)),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_Policy(keep, self),
                cleanup_tmp_directories=True,
                async_options=ocp.options.AsyncOptions(post_finalization_callback=self._finalize),
                create=False,
                multiprocessing_options=_only_here(folder.name),
            ),
        )
        self._closing.callback(self._manager.close)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error: Any) -> None:
        self._closing.__exit__(*error)

    def save(
        self,
        step: int,
        params: Any,
        optimizer: Any = None,
        loop_state: dict[str, Any] | None = None,
        ema: Any = None,
        score: float | None = None,
    ) -> None:
        """Write the checkpoint of `step` in the background, unless it exists. The lowest `score` is the best."""
        if step in self.steps():
            self._prune()
            return
        params, optimizer, ema = gathered((params, optimizer, ema))
        if self._manager is None:
            self.scores[step] = score
            return
        items: dict[str, Any] = {"params": ocp.args.StandardSave(params)}
        if optimizer is not None:
            items["optimizer"] = ocp.args.StandardSave(optimizer)
        if ema is not None:
            items["ema"] = ocp.args.StandardSave(ema)
        if loop_state is not None:
            items["position"] = ocp.args.JsonSave(loop_state)
        self.wait()  # `_finalize` takes no arguments, so only one save may run at a time.
        self._saving, self.scores[step] = step, score
        trees = {"params": params, "optimizer": optimizer, "ema": ema}
        self._shapes = {name: _shapes(tree) for name, tree in trees.items() if name in items}
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, step: int, params: Any, optimizer: Any, ema: Any = None) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Read the state of `step` with the shapes, dtypes and shardings of `params`, `optimizer` and `ema`.

        Return parameters, optimizer state, moving average (None if `ema` is None), and `loop_state`.

        Raises:
            RequestError: the checkpoint cannot be read, or has other shapes.
        """
        trees = {"params": params, "optimizer": optimizer} | ({} if ema is None else {"ema": ema})
        read = None if self._manager is None else self._read(self._manager, step, trees)
        state = distributed(None if read is None else {name: read[name] for name in trees}, trees)
        average = None if ema is None else state["ema"]
        return state["params"], state["optimizer"], average, dict(share(None if read is None else read["position"]))

    def _read(self, manager: ocp.CheckpointManager, step: int, trees: dict[str, Any]) -> dict[str, Any]:
        """Return the items of a checkpoint, and its position."""
        params = trees["params"]
        form = _on_host if several() else _abstract
        targets = {name: ocp.args.StandardRestore(jax.tree.map(form, tree)) for name, tree in trees.items()}
        items = ocp.args.Composite(**targets, position=ocp.args.JsonRestore())
        _check_shapes(self.folder / str(step) / "params", params)
        try:
            return dict(manager.restore(step, args=items).items())
        except (ValueError, OSError, KeyError) as error:
            raise _unreadable(self.folder / str(step), error) from error

    def wait(self) -> None:
        """Wait until all saves are on disk."""
        if self._manager is not None:
            self._manager.wait_until_finished()

    def steps(self) -> list[int]:
        """Return the sorted steps with a checkpoint."""
        return share(None if self._manager is None else sorted(self._manager.all_steps()))

    def remove(self, step: int) -> None:
        """Delete the checkpoint of `step`."""
        if self._manager is not None:
            self._manager.wait_until_finished()
            self._manager.delete(step)

    def best(self) -> float | None:
        """Return the lowest score of all checkpoints; None if there is no score."""
        return min((value for value in self.scores.values() if value is not None), default=None)

    def newest(self, warn: Warn) -> int | None:
        """Return the newest step with a valid checkpoint; None if there is no checkpoint.

        Newer corrupt checkpoints are reported to `warn` and renamed to STEP.damaged, so that these steps can be written
        again. Only one process calls this; then all processes call `reload`.

        Raises:
            RequestError: all are corrupt. They are not renamed.
        """
        step, corrupt = _newest_valid(self.folder, "", warn)
        for bad in corrupt:
            renamed = self.folder / f"{bad}.damaged"
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(renamed)
            (self.folder / str(bad)).rename(renamed)
        return step

    def reload(self) -> None:
        """Read the folder again, after a call of `newest` in this or another process."""
        if self._manager is not None:
            self._manager.reload()
        found = [(step, read_score(self.folder / str(step))) for step in steps(self.folder)]
        self.scores = dict(share(found))
        self._prune()

    def _prune(self) -> None:
        """Delete checkpoints that are not kept, which a killed process may have left."""
        kept = self._keep.kept({step: self.scores.get(step) for step in self.steps()})
        for step in self.steps():
            if step not in kept:
                self.remove(step)

    def _finalize(self) -> None:
        """Check that the checkpoint being saved can be read, and write its checksums.

        Orbax calls this in its thread when all files are written, before it renames the folder and deletes checkpoints.
        """
        (tmp,) = self.folder.glob(f"{self._saving}.orbax-checkpoint-tmp*")
        for item, shapes in self._shapes.items():
            try:
                complete = _saved_shapes(tmp / item) == shapes
            except (ValueError, OSError, KeyError) as error:
                raise _not_saved(self.folder / str(self._saving), first_line(error)) from error
            if not complete:
                raise _not_saved(self.folder / str(self._saving), f"arrays of {item} are missing")
        write_checksums(tmp, self.scores[self._saving])


@dataclass(frozen=True)
class _Policy(checkpoint_managers.PreservationPolicy):
    """Adapts `Keep` to Orbax."""

    keep: Keep
    checkpoints: Checkpoints

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        kept = self.keep.kept({info.step: self.checkpoints.scores.get(info.step) for info in checkpoints})
        return [info.step in kept for info in checkpoints]


def has_ema(folder: Path, step: int) -> bool:
    """Return whether the checkpoint of `step` in `folder` has a moving average of the parameters."""
    return (folder / str(step) / "ema").is_dir()


def read_params(folder: Path, shapes: Any, warn: Warn, step: int | None = None) -> tuple[int, Any]:
    """Return (step, parameters) of a checkpoint in `folder`, as a tree with the shapes of `shapes`.

    It is that of `step`, or with None the newest valid one; newer corrupt checkpoints are then reported to `warn`. The
    parameters are their moving average if the checkpoint has one (see `has_ema`).

    Raises:
        RequestError: there is none, it cannot be read, or it has other shapes.
    """
    if step is None:
        step = _newest_valid(folder, "params", warn)[0]
    elif step not in steps(folder):
        raise RequestError(
            f"There is no checkpoint of step {step} in {folder}. It has {listed(list(map(str, steps(folder))), 12)}."
        )
    elif (problem := find_corruption(folder / str(step), "params")) is not None:
        raise RequestError(f"The checkpoint {folder / str(step)} is corrupt ({problem}). Name another step.")
    if step is None:
        raise RequestError(f"There is no checkpoint in {folder}: the run stopped before its first one. Resume the run.")
    item = folder / str(step) / ("ema" if has_ema(folder, step) else "params")
    _check_shapes(item, shapes)
    with plain_path(item) as path, ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        try:
            params = reader.restore(path, args=ocp.args.StandardRestore(jax.tree.map(_abstract, shapes)))
        except (ValueError, OSError, KeyError) as error:
            raise _unreadable(item, error) from error
    return step, params


def _newest_valid(folder: Path, item: str, warn: Warn) -> tuple[int | None, list[int]]:
    """Return the newest step whose `item` ("" for all items) is valid, and the newer corrupt steps.

    Raises:
        RequestError: all are corrupt.
    """
    corrupt: dict[int, str] = {}
    for step in reversed(steps(folder)):
        problem = find_corruption(folder / str(step), item)
        if problem is None:
            for bad, reason in corrupt.items():
                warn(f"The checkpoint {folder / str(bad)} is corrupt ({reason}); using that of step {step}.")
            return step, list(corrupt)
        corrupt[step] = problem
    if corrupt:
        problems = "; ".join(f"step {step}: {reason}" for step, reason in corrupt.items())
        raise RequestError(
            f"All checkpoints in {folder} are corrupt ({problems}). Restore one from a backup, or start a new run."
        )
    return None, []


def _check_shapes(item: Path, expected: Any) -> None:
    """Raise RequestError if the parameters in `item` have other names or shapes. Only the metadata is read.

    Orbax detects wrong shapes only while reading, and then prints tracebacks of its other reads.
    """
    try:
        saved = _saved_shapes(item)
    except (ValueError, OSError, KeyError) as error:
        raise _unreadable(item, error) from error
    shapes = _shapes(expected)
    differing = sorted(path for path in saved.keys() | shapes.keys() if saved.get(path) != shapes.get(path))
    if differing:
        path = differing[0]
        example = f"{path}: {saved.get(path, 'absent')} here, {shapes.get(path, 'absent')} according to config.json"
        raise _unreadable(item, ValueError(f"{len(differing)} parameters differ ({example})"))


def _saved_shapes(item: Path) -> Shapes:
    """Return the shapes of the arrays in `item` by path. All arrays are opened, but no values are read.

    Raises:
        ValueError, OSError, KeyError: they cannot be read.
    """
    with plain_path(item) as path, ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        saved = reader.metadata(path).item_metadata
    if saved is None:
        raise ValueError("its arrays are incomplete")
    return _shapes(saved.tree)


def _shapes(tree: Any) -> Shapes:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(map(_key, path)): tuple(leaf.shape) for path, leaf in leaves}


def _key(key: Any) -> str:
    """Return the name of a key of a tree path. Orbax returns tuples as lists, and named tuples as mappings."""
    return str(next(getattr(key, name) for name in ("key", "name", "idx") if hasattr(key, name)))


def _only_here(name: str) -> ocp.options.MultiprocessingOptions:
    """Return the options for objects of Orbax that only process 0 has."""
    if not several():
        return ocp.options.MultiprocessingOptions()
    return ocp.options.MultiprocessingOptions(0, {0}, name)


def _on_host(leaf: Any) -> Any:
    """Return an array of this shape and dtype on the host that takes no memory."""
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def _abstract(leaf: Any) -> Any:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _not_saved(checkpoint: Path, reason: str) -> BigsError:
    return BigsError(
        f"The checkpoint {checkpoint} was written but cannot be read back: {reason}. Earlier checkpoints were kept. "
        "Check the disk with `bigs doctor`, or name another folder with $BIGS_RUNS or --run."
    )


def _unreadable(checkpoint: Path, error: Exception) -> RequestError:
    return RequestError(
        f"The checkpoint {checkpoint} cannot be read: {first_line(error)}. If config.json or recipe.yaml of the run "
        "was edited, undo that; if the files are corrupt, remove the folder of this checkpoint to use the previous one."
    )
