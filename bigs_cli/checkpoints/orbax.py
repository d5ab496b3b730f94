"""Orbax, and the only file that imports it: a run's training state and its best parameters, step by step.

A checkpoint is a folder named by its step with the items `params`, `ema` (their moving average, where one is kept),
`optimizer` (training states only) and `position` (JSON: what the data loader needs to go on, and counts), and its seal.
Orbax writes under a temporary name and renames, so that a folder with a step's name is whole. One that was damaged
since is passed over for the one before, and put aside as STEP.damaged when a run goes on from there.
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
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from bigs_cli.checkpoints.checksums import damage, score, seal, steps
from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.paths import plain_path
from bigs_cli.core.processes import is_main_process

Warn = Callable[[str], object]
Shapes = dict[str, tuple[int, ...]]

# Orbax logs every save, which our log has, and errors of its threads, which it also raises where they are waited for.
for _name in ("absl", "asyncio"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


def _hook(given: sys.UnraisableHookArgs, before: Callable[..., object] = sys.unraisablehook) -> None:
    """Pass over what TensorStore says, with tracebacks, of the writes that a failed save leaves unfinished."""
    if not (isinstance(given.exc_value, RuntimeError) and str(given.exc_value) == "Event loop is closed"):
        before(given)


sys.unraisablehook = _hook


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay: the `newest`, each whose step `every` divides, and with `best` that of least score."""

    newest: int = 1
    every: int | None = None
    best: bool = False

    def kept(self, scores: dict[int, float | None]) -> set[int]:
        """Return the steps to keep of those in `scores`, ascending; of equally good ones the first is best."""
        kept = {*list(scores)[-self.newest :]}
        if self.every:
            kept |= {step for step in scores if step % self.every == 0}
        known = {step: value for step, value in scores.items() if value is not None}
        if self.best and known:
            kept.add(min(known, key=known.__getitem__))
        return kept


class Checkpoints:
    """The checkpoints in one folder, of which those that `keep` says stay. A context: leaving it waits for writes."""

    def __init__(self, folder: Path, keep: Keep = Keep()) -> None:
        self.folder = folder
        self._keep = keep
        self.scores = {step: score(folder / str(step)) for step in steps(folder)}
        self._saving = -1
        self._shapes: dict[str, Shapes] = {}
        self._closing = contextlib.ExitStack()
        if is_main_process():  # Orbax could not make it through a link.
            folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self._closing.enter_context(plain_path(folder)),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_Policy(keep, self),
                cleanup_tmp_directories=True,
                async_options=ocp.options.AsyncOptions(post_finalization_callback=self._seal),
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
        position: dict[str, Any] | None = None,
        ema: Any = None,
        score: float | None = None,
    ) -> None:
        """Write the checkpoint of `step` in the background; a step already there is left alone.

        Among those with a `score` the one with the least is the best.
        """
        if step in self._manager.all_steps():
            self._prune()
            return
        items: dict[str, Any] = {"params": ocp.args.StandardSave(params)}
        if optimizer is not None:
            items["optimizer"] = ocp.args.StandardSave(optimizer)
        if ema is not None:
            items["ema"] = ocp.args.StandardSave(ema)
        if position is not None:
            items["position"] = ocp.args.JsonSave(position)
        self.wait()  # `_seal` is told nothing: one save at a time, as Orbax has it too.
        self._saving, self.scores[step] = step, score
        trees = {"params": params, "optimizer": optimizer, "ema": ema}
        self._shapes = {name: _shapes(tree) for name, tree in trees.items() if name in items}
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
            raise RequestError(_unreadable(self.folder / str(step), error)) from error
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

    def best(self) -> float | None:
        """Return the least score of the checkpoints here; None when none has any."""
        return min((value for value in self.scores.values() if value is not None), default=None)

    def newest(self, warn: Warn) -> int | None:
        """Return the newest step that is as it was written, or None when there is no checkpoint.

        `warn` is told of damaged ones that are newer; they are renamed to STEP.damaged, so that the run can write these
        steps again. To be followed by `reload`; of several processes one calls this, and all call that.

        Raises:
            RequestError: all are damaged. They are left as they are.
        """
        step, damaged = _sound(self.folder, "", warn)
        for bad in damaged:
            aside = self.folder / f"{bad}.damaged"
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(aside)
            (self.folder / str(bad)).rename(aside)
        return step

    def reload(self) -> None:
        """Look at the folder again, after `newest` in this process or in another one."""
        self._manager.reload()
        self.scores = {step: score(self.folder / str(step)) for step in steps(self.folder)}
        self._prune()

    def _prune(self) -> None:
        """Delete what does not stay: a process killed after a save had not come to it."""
        kept = self._keep.kept({step: self.scores.get(step) for step in self.steps()})
        for step in self.steps():
            if step not in kept:
                self.remove(step)

    def _seal(self) -> None:
        """Check that the checkpoint being saved can be read, and seal it.

        Orbax calls this in its thread, all files written, before it renames the checkpoint and deletes an older one.
        """
        (draft,) = self.folder.glob(f"{self._saving}.orbax-checkpoint-tmp*")
        for item, shapes in self._shapes.items():
            try:
                same = _saved_shapes(draft / item) == shapes
            except (ValueError, OSError, KeyError) as error:
                raise BigsError(_not_saved(self.folder / str(self._saving), _reason(error))) from error
            if not same:
                raise BigsError(_not_saved(self.folder / str(self._saving), f"not all arrays of {item} are there"))
        seal(draft, self.scores[self._saving])


@dataclass(frozen=True)
class _Policy(checkpoint_managers.PreservationPolicy):
    """`Keep`, as Orbax asks for it."""

    keep: Keep
    checkpoints: Checkpoints

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        kept = self.keep.kept({info.step: self.checkpoints.scores.get(info.step) for info in checkpoints})
        return [info.step in kept for info in checkpoints]


def has_average(folder: Path, step: int) -> bool:
    """Return whether the checkpoint of `step` in `folder` has a moving average of the parameters."""
    return (folder / str(step) / "ema").is_dir()


def read_params(folder: Path, shapes: Any, warn: Warn) -> tuple[int, Any]:
    """Return (step, parameters) of the newest sound checkpoint in `folder`, in the tree and shapes of `shapes`.

    These are the moving average of the parameters if the checkpoint has one: see `has_average`. `warn` is told of
    damaged ones that are newer.

    Raises:
        RequestError: there is none, it cannot be read, or it holds other shapes.
    """
    step = _sound(folder, "params", warn)[0]
    if step is None:
        raise RequestError(f"{folder} holds no checkpoint: the run stopped before its first one.")
    place = folder / str(step) / ("ema" if has_average(folder, step) else "params")
    _compare(place, shapes)
    with plain_path(place) as plain, ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        try:
            params = reader.restore(plain, args=ocp.args.StandardRestore(jax.tree.map(_abstract, shapes)))
        except (ValueError, OSError, KeyError) as error:
            raise RequestError(_unreadable(place, error)) from error
    return step, params


def _sound(folder: Path, item: str, warn: Warn) -> tuple[int | None, list[int]]:
    """Return the newest step whose `item` ("": every one) is as it was written, and the damaged newer ones.

    Raises:
        RequestError: all are damaged.
    """
    damaged: dict[int, str] = {}
    for step in reversed(steps(folder)):
        problem = damage(folder / str(step), item)
        if problem is None:
            for bad, what in damaged.items():
                warn(f"The checkpoint {folder / str(bad)} is damaged ({what}); the one of step {step} is used instead.")
            return step, list(damaged)
        damaged[step] = problem
    if damaged:
        each = "; ".join(f"step {step}: {what}" for step, what in damaged.items())
        raise RequestError(
            f"Every checkpoint in {folder} is damaged ({each}). Put back a copy of one, or start a new run."
        )
    return None, []


def _compare(place: Path, expected: Any) -> None:
    """Refuse parameters at `place` whose names or shapes are not the expected ones; only the metadata is read.

    Orbax would find another shape only while it reads, and leave other reads of its unfinished, with tracebacks.
    """
    try:
        found = _saved_shapes(place)
    except (ValueError, OSError, KeyError) as error:
        raise RequestError(_unreadable(place, error)) from error
    wanted = _shapes(expected)
    differing = sorted(path for path in found.keys() | wanted.keys() if found.get(path) != wanted.get(path))
    if differing:
        path = differing[0]
        one = f"{path} is {found.get(path, 'absent')} there and {wanted.get(path, 'absent')} by config.json"
        raise RequestError(_unreadable(place, ValueError(f"{len(differing)} parameters differ ({one})")))


def _saved_shapes(place: Path) -> Shapes:
    """Return the shapes of the arrays at `place` by path. Every array is opened; of its values, none are read.

    Raises:
        ValueError, OSError, KeyError: they cannot be read.
    """
    with plain_path(place) as plain, ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        saved = reader.metadata(plain).item_metadata
    if saved is None:
        raise ValueError("it holds no complete set of arrays")
    return _shapes(saved.tree)


def _shapes(tree: Any) -> Shapes:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(map(_key, path)): tuple(leaf.shape) for path, leaf in leaves}


def _key(key: Any) -> str:
    """Return the name of a step into a tree: Orbax gives back tuples as lists, and named tuples as mappings."""
    return str(next(getattr(key, name) for name in ("key", "name", "idx") if hasattr(key, name)))


def _abstract(leaf: Any) -> Any:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _not_saved(checkpoint: Path, reason: str) -> str:
    return (
        f"The checkpoint {checkpoint} was written but cannot be read back: {reason}. Earlier checkpoints were kept; "
        "`bigs doctor` checks whether runs can be saved, and $BIGS_RUNS or --run names another folder."
    )


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


def _unreadable(place: Path, error: Exception) -> str:
    return (
        f"The checkpoint {place} cannot be read: {_reason(error)}. If its run's config.json or recipe.yaml was edited, "
        "undo that; if the files are damaged, remove this checkpoint's folder and use the one before."
    )
