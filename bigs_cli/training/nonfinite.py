"""Divergence: which states are not saved, and the error that ends a run whose loss or gradient stays nonfinite."""

from __future__ import annotations

from pathlib import Path

from bigs_cli.checkpoints.orbax import Checkpoints
from bigs_cli.core.errors import BigsError
from bigs_cli.recipe.schema import Optimizer
from bigs_cli.reporting.console import err
from bigs_cli.training.step import TrainState


def is_finite(done: int, state: TrainState) -> bool:
    """Return whether step `done` was taken; if it was skipped, say that its state is not saved.

    The parameters may be what made it so. A run that goes on from an earlier checkpoint comes by here again.
    """
    if int(state.skipped_in_a_row):
        err.print(f"step {done}: no checkpoint, as loss or gradient of this step were not finite")
        return False
    return True


def divergence_error(run: Path, checkpoints: Checkpoints, settings: Optimizer, first: int) -> BigsError:
    """Return the error that ends a run whose steps from `first` on were skipped.

    A checkpoint of the state before `first` is not good: its parameters failed on every batch since. It is removed if
    there is an older one.
    """
    checkpoints.wait()
    saved, bad = checkpoints.steps(), first - 1
    if len(saved) > 1 and saved[-1] == bad:
        checkpoints.remove(bad)
    count = settings.stop_after_nonfinite
    what = f"Loss or gradient were not finite in {count} step{'s in a row' * (count > 1)}, from step {first} on"
    return diverged(what, run, checkpoints, settings, bad)


def diverged(what: str, run: Path, checkpoints: Checkpoints, settings: Optimizer, bad: int | None = None) -> BigsError:
    """Return the error that says `what` ended the run, where its last good checkpoint is, and how to go on.

    A checkpoint of step `bad`, if it is the only one, is called what it is.
    """
    change = f"--set optimizer.learning_rate={settings.learning_rate / 2:g}"
    if settings.clip_norm is None or settings.clip_norm > 1:
        change += " --set optimizer.clip_norm=1.0"
    last = max(checkpoints.steps(), default=None)
    place = checkpoints.folder / str(last)
    if last is None:
        where = f"There is no checkpoint yet. Start anew (--run {run}-2)"
    elif last == bad:
        where = f"The only checkpoint, {place}, is of the parameters that failed. Start anew (--run {run}-2)"
    else:
        where = f"The last good checkpoint is {place}. Start from it (--from {run} --run {run}-2)"
    return BigsError(
        f"{what}, so the run has stopped. {where} with a lower learning rate or shorter gradients: {change}"
    )
