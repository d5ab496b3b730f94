"""Nonfinite losses, gradients and parameters: the checks before a checkpoint, and the errors that end a run."""

from __future__ import annotations

import math
from pathlib import Path

import jax
import jax.numpy as jnp

from bigs_cli.checkpoints.orbax import Checkpoints
from bigs_cli.core.errors import BigsError
from bigs_cli.recipe.groups import Optimizer
from bigs_cli.reporting.console import err
from bigs_cli.training.step import TrainState


def is_finite(step: int, state: TrainState) -> bool:
    """Return whether the loss and gradient of `step` were finite. If not, print that no checkpoint is written.

    The parameters of a skipped step may be the cause; a checkpoint of them would resume into the same failure.
    """
    if int(state.skipped_in_a_row):
        err.print(f"step {step}: no checkpoint, because the loss or gradient of this step is not finite")
        return False
    return True


def nonfinite_result(step: int, state: TrainState, loss: float | None) -> str:
    """Return a sentence if, after the last step, the validation loss (else a parameter) is not finite; otherwise ""."""
    if loss is not None:
        return "" if math.isfinite(loss) else f"The validation loss after step {step:,} is not finite"
    if all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state.ema_params)):
        return ""
    return f"The parameters after step {step:,} are not finite"


def skipped_steps_error(run: Path, checkpoints: Checkpoints, settings: Optimizer, first: int) -> BigsError:
    """Return the error that ends a run whose steps from `first` on were skipped.

    The parameters before `first` failed on every batch since, so their checkpoint is removed if there is an older one.
    """
    checkpoints.wait()
    saved, bad = checkpoints.steps(), first - 1
    if len(saved) > 1 and saved[-1] == bad:
        checkpoints.remove(bad)
    count = settings.stop_after_nonfinite
    steps = "1 step" if count == 1 else f"{count} consecutive steps"
    what = f"The loss or gradient was not finite in {steps}, from step {first} on"
    return divergence_error(what, run, checkpoints, settings, bad)


def divergence_error(
    what: str, run: Path, checkpoints: Checkpoints, settings: Optimizer, bad: int | None = None
) -> BigsError:
    """Return the error of a run that ended because of `what`, with its last good checkpoint and how to continue.

    The parameters of step `bad` have failed; the message says so if there is no other checkpoint.
    """
    change = f"--set optimizer.learning_rate={settings.learning_rate / 2:g}"
    if settings.clip_norm is None or settings.clip_norm > 1:
        change += " --set optimizer.clip_norm=1.0"
    last = max(checkpoints.steps(), default=None)
    place = checkpoints.folder / str(last)
    if last is None:
        where = f"There is no checkpoint yet. Start a new run (--run {run}-2)"
    elif last == bad:
        where = f"The only checkpoint, {place}, holds the parameters that failed. Start a new run (--run {run}-2)"
    else:
        where = f"The last good checkpoint is {place}. Start a new run from it (--from {run} --run {run}-2)"
    return BigsError(
        f"{what}, so the run has stopped. {where} with a lower learning rate or a smaller gradient norm: {change}"
    )
