"""The number of steps that a pretraining run can take within its time budget, measured before the run starts."""

from __future__ import annotations

import time
from bisect import bisect_right

import jax

from bigs_cli.core.errors import RequestError
from bigs_cli.core.processes import broadcast
from bigs_cli.models.functional import Parameters
from bigs_cli.recipe import PretrainRecipe
from bigs_cli.training.batch_schedule import base_batch_size, tokens_until
from bigs_cli.training.loop import Training, initialize_state, make_update

MEASURED_FRACTION = 0.01
"""Fraction of the budget spent on timing steps, not counting the first step, which includes compilation."""
FEWEST_STEPS = 3
FORWARD = 1 / 3
"""Assumed time of an evaluation relative to a training step on the same number of rows.

The same ratio is assumed for their compilation."""


def steps_within(training: Training, params: Parameters, validation_rows: int) -> int:
    """Return the number of steps with which the run ends when `recipe.budget` has passed since the command began.

    Steps are timed on a copy of the state, which is then discarded. The rest of the budget pays for the steps and the
    evaluations. With `batch_size_warmup`, a step takes time in proportion to its rows.

    Raises:
        RequestError: the budget is too short for one step.
    """
    recipe = training.recipe
    assert isinstance(recipe, PretrainRecipe)
    budget = recipe.budget_seconds or 0.0
    optimizer, update = make_update(training)
    state = initialize_state(training, params, optimizer)
    training.batches.restore(0, {})
    warmup = recipe.batch_size_warmup.steps if recipe.batch_size_warmup else 0
    full = max(recipe.steps - 1, warmup)  # A step with the full batch size.
    times: list[float] = []  # The first includes compilation.
    # All processes take the same number of steps, as many as process 0 needs.
    while broadcast(len(times) <= FEWEST_STEPS or sum(times[1:]) < MEASURED_FRACTION * budget):
        begun = time.perf_counter()
        state, _ = update(state, training.batches.take(full))
        jax.block_until_ready(state)
        times.append(time.perf_counter() - begun)
    compiling, *times = times
    seconds = sum(times) / len(times)
    steps = broadcast(_fit(recipe, seconds, compiling, training.job.started, validation_rows))
    if steps < 1:
        raise RequestError(
            f"A step takes {seconds:.1f} s here, so none fits into the budget of {recipe.budget}. Raise --budget, or "
            "make the model or the batch smaller."
        )
    return steps


def _fit(recipe: PretrainRecipe, seconds: float, compiling: float, started: float, validation_rows: int) -> int:
    """Return the number of steps, each of `seconds`, in the rest of the budget; below 1 if none fits."""
    batches = -(-validation_rows // recipe.batch_size)
    some = min(batches, recipe.evaluate.max_batches or batches)
    rest = (recipe.budget_seconds or 0.0) - (time.perf_counter() - started)
    rest -= FORWARD * (seconds * batches + compiling) if batches else 0.0
    rows = recipe.batch_size * recipe.data.sequence_length

    def cost(steps: int) -> float:
        return seconds * (tokens_until(recipe, steps) / rows + FORWARD * some * steps / recipe.evaluate.every_steps)

    most = max(0, int(rest / seconds)) * recipe.batch_size // base_batch_size(recipe) + 1
    return bisect_right(range(most + 1), rest, key=cost) - 1
