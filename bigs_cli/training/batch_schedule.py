"""The batch size of each pretraining step, and the number of steps, which `max_tokens` may limit.

Both follow from the recipe alone, so a resumed run needs only its step number.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bigs_cli.data.corpus import Batch
from bigs_cli.recipe import PretrainRecipe


def base_batch_size(recipe: PretrainRecipe) -> int:
    """Return the batch size of the loader, in rows, of which the batch size of every step is a multiple."""
    return recipe.batch_size if recipe.batch_size_warmup is None else recipe.batch_size_warmup.start


def rows_of(recipe: PretrainRecipe, step: int) -> int:
    """Return the batch size, in rows, of step `step`, counted from 0."""
    return next(rows for first, rows in reversed(_stages(recipe)) if step >= first)


def tokens_until(recipe: PretrainRecipe, step: int) -> int:
    """Return the number of tokens, padding included, in the steps before `step`."""
    stages = _stages(recipe)
    ends = [first for first, _ in stages[1:]] + [step]
    rows = sum(rows * max(min(end, step) - first, 0) for (first, rows), end in zip(stages, ends, strict=True))
    return rows * recipe.data.sequence_length


def last_step(recipe: PretrainRecipe) -> int:
    """Return the number of steps: that of the recipe, or fewer if `max_tokens` is reached earlier."""
    if recipe.max_tokens is None or tokens_until(recipe, recipe.steps) <= recipe.max_tokens:
        return recipe.steps
    reached = [first for first, _ in _stages(recipe) if tokens_until(recipe, first) < recipe.max_tokens]
    first = reached[-1]
    missing = recipe.max_tokens - tokens_until(recipe, first)
    return first - -missing // (rows_of(recipe, first) * recipe.data.sequence_length)


def take(batches: Iterator[Batch], count: int) -> Batch:
    """Return the next `count` batches of a loader as one, with `input_ids` `[B, L]`."""
    parts = [next(batches) for _ in range(count)]
    return parts[0] if count == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _stages(recipe: PretrainRecipe) -> list[tuple[int, int]]:
    """Return (first step, rows) of every batch size, ascending.

    During the warmup the batch size doubles at equal intervals, until it is that of the recipe.
    """
    warmup = recipe.batch_size_warmup
    if warmup is None:
        return [(0, recipe.batch_size)]
    doublings = (recipe.batch_size // warmup.start).bit_length() - 1
    return [(-(-stage * warmup.steps // doublings), warmup.start << stage) for stage in range(doublings + 1)]
