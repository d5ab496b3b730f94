"""Rows of tokens to batches of few shapes, and what a compiled function gives for them, in the order of the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bigs_cli.data.encode import Encoded

Array = np.ndarray[Any, Any]
Batch = dict[str, Array]
SHORTEST = 16
_READ = ("input_ids", "attention_mask", "token_type_ids", "positions")  # and not the weights, which are for training


def bucket(tokens: int, length: int) -> int:
    """Return what rows of `tokens` are padded to: 16, 32, 48, 64, 96, 128, 192, … (powers of 2 and 1½ times these).

    At most `length`. Ten shapes up to 512 tokens, and never more than half of a row is padding beyond 32.
    """
    step = SHORTEST
    while step < tokens:
        step = step * 3 // 2 if step & (step - 1) == 0 and step >= 2 * SHORTEST else _next_power(step)
    return min(step, length)


def rows_at_once(rows: int, most: int) -> int:
    """Return the batch size for so many rows in all: a single text need not pay for `most`."""
    return min(most, _next_power(rows - 1) if rows > 1 else 1)


def batches(inputs: Encoded, size: int, trim: bool, groups: Array | None = None) -> Iterator[tuple[Array, Batch]]:
    """Yield (rows, batch) over every row once; each batch has `size` rows, of which the last of a group may be empty.

    Trimmed, rows go from the longest to the shortest, each batch as long as the `bucket` of its longest row; so the
    batch that is not full is the one that costs least. `groups` `[n]` of rows do not share batches.
    """
    kinds = np.zeros(len(inputs), int) if groups is None else groups
    for kind in np.unique(kinds):
        order = np.flatnonzero(kinds == kind)
        if trim:
            order = order[np.argsort(-inputs.lengths[order], kind="stable")]
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            L = bucket(int(inputs.lengths[rows].max()), inputs.length) if trim else inputs.length
            made = replace(inputs, length=L).batch(rows, size)
            yield rows, {name: made[name] for name in _READ if name in made}


def run(
    function: Callable[[Batch], Any],
    inputs: Encoded,
    made: Iterator[tuple[Array, Batch]],
    by_token: bool,
    advance: Callable[[int], None] = lambda n: None,
) -> Any:
    """Return what `function` gives for batches, in the order of `inputs`: arrays `[n, …]`, or `[all tokens, …]`.

    `function` returns an array or a tuple of arrays `[size, …]`, or `[size, L, …]` by token. The next batch is handed
    to the device before the last one's results are waited for.
    """
    kept: list[Array] = []
    several = False

    def keep(rows: Array, result: Any) -> None:
        nonlocal several
        several = isinstance(result, tuple)
        arrays = [np.asarray(one) for one in (result if several else (result,))]
        if not kept:
            count, first = (len(inputs.ids), 2) if by_token else (len(inputs), 1)
            kept.extend(np.zeros((count, *one.shape[first:]), one.dtype) for one in arrays)
        for whole, one in zip(kept, arrays, strict=True):
            if by_token:
                for row, of_row in zip(rows, one, strict=False):
                    start, end = inputs.starts[row], inputs.starts[row + 1]
                    whole[start:end] = of_row[: end - start]
            else:
                whole[rows] = one[: len(rows)]
        advance(len(rows))

    waiting: tuple[Array, Any] | None = None
    for rows, batch in made:
        handed = rows, function(batch)
        if waiting is not None:
            keep(*waiting)
        waiting = handed
    if waiting is not None:
        keep(*waiting)
    return tuple(kept) if several else kept[0]


def _next_power(number: int) -> int:
    """Return the lowest power of 2 above `number`."""
    return 1 << number.bit_length()
