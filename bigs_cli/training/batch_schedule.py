"""How much a pretraining takes: the rows of each step, and the step that a number of tokens ends it at.

Both follow from the recipe alone, so that a resumed run needs nothing more than the number of its step.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bigs_cli.data.corpus import Batch
from bigs_cli.recipe import PretrainRecipe


def unit(recipe: PretrainRecipe) -> int:
    """Return the rows that every step takes a whole number of times: what the loader gives at once."""
    return recipe.batch_size if recipe.batch_size_warmup is None else recipe.batch_size_warmup.start


def rows_of(recipe: PretrainRecipe, step: int) -> int:
    """Return the rows that step `step`, counted from 0, takes."""
    return next(rows for first, rows in reversed(_stages(recipe)) if step >= first)


def tokens_until(recipe: PretrainRecipe, step: int) -> int:
    """Return the tokens, padding included, of the steps before `step`."""
    stages = _stages(recipe)
    ends = [first for first, _ in stages[1:]] + [step]
    rows = sum(rows * max(min(end, step) - first, 0) for (first, rows), end in zip(stages, ends, strict=True))
    return rows * recipe.data.sequence_length


def last_step(recipe: PretrainRecipe) -> int:
    """Return the number of steps: the recipe's, or fewer if they reach `max_tokens`."""
    if recipe.max_tokens is None or tokens_until(recipe, recipe.steps) <= recipe.max_tokens:
        return recipe.steps
    reached = [first for first, _ in _stages(recipe) if tokens_until(recipe, first) < recipe.max_tokens]
    first = reached[-1]
    missing = recipe.max_tokens - tokens_until(recipe, first)
    return first - -missing // (rows_of(recipe, first) * recipe.data.sequence_length)


def take(batches: Iterator[Batch], units: int) -> Batch:
    """Return the next `units` batches of a loader as one, with `input_ids` `[B, L]`."""
    parts = [next(batches) for _ in range(units)]
    return parts[0] if units == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _stages(recipe: PretrainRecipe) -> list[tuple[int, int]]:
    """Return (first step, rows) of every size of batch, ascending: doubling, each for as many steps, until full."""
    warmup = recipe.batch_size_warmup
    if warmup is None:
        return [(0, recipe.batch_size)]
    doublings = (recipe.batch_size // warmup.start).bit_length() - 1
    return [(-(-stage * warmup.steps // doublings), warmup.start << stage) for stage in range(doublings + 1)]
