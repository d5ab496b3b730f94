"""The inference engine: encoded rows → batches by length → device → results in the order of the rows.

Task evaluation, `bigs predict`, embeddings and pseudo-log-likelihoods all run through `Engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import jax
import numpy as np

from bigs_cli.core.error_messages import nonfinite_error
from bigs_cli.data.encode import Encoded
from bigs_cli.models.functional import Apply, Parameters
from bigs_cli.models.heads import Outputs

Array = np.ndarray[Any, Any]
Batch = dict[str, Any]
Item = TypeVar("Item", bound=Any)

WINDOW = 4096
"""Items of a stream that are in memory, and share batches, at a time."""
CHARACTERS = 1 << 22
"""No more of them than have this many characters in all: tokens take some hundred bytes each while they are made."""


def ignore(count: int) -> None:
    """Take no notice of progress."""


class Engine:
    """Applies a function to every row, in batches of few shapes; compiled once for each shape, for any parameters.

    For a model that masks its padding, a row's result does not depend on the rows that share its batch.
    """

    def __init__(
        self,
        function: Callable[[Parameters, Batch], Any],
        batch_size: int,
        trim: bool,
        by_token: bool = False,
        place: Callable[[Batch], Batch] | None = None,
    ) -> None:
        """`function` returns an array, or a tuple of arrays, `[batch_size, …]`, or, `by_token`, `[batch_size, L, …]`.

        `trim` pads a batch to its longest row instead of the full length, which changes the results of models that
        do not mask their padding. `place` puts a batch on the devices.
        """
        self.function = jax.jit(function)
        self.batch_size, self.trim, self.by_token, self._place = batch_size, trim, by_token, place

    def __call__(
        self, params: Parameters, inputs: Encoded, advance: Callable[[int], None] = ignore, size: int | None = None
    ) -> Any:
        """Return the results in the order of `inputs`: arrays `[n, …]`, or, by token, `[all tokens, …]`.

        `advance` is called with the number of rows that are done. `size` is a batch size other than the engine's. The
        next batch is dispatched to the device before the results of the last one are awaited.
        """
        results = _Results(inputs, self.by_token)
        pending: tuple[Array, Any] | None = None
        for rows, batch in self.batches(inputs, size):
            dispatched = rows, self.function(params, batch if self._place is None else self._place(batch))
            if pending is not None:
                results.add(*pending)
                advance(len(pending[0]))
            pending = dispatched
        if pending is not None:
            results.add(*pending)
            advance(len(pending[0]))
        return results.value

    def batches(self, inputs: Encoded, size: int | None = None) -> Iterator[tuple[Array, Batch]]:
        """Yield (rows, batch) over every row once. Batches have `size` rows; those that are missing are empty.

        Trimmed, rows go from the longest to the shortest, so that the batch that is not full is the cheapest one.
        """
        size = size or self.batch_size
        groups = inputs.groups
        for group in np.unique(groups):
            order = np.flatnonzero(groups == group)
            if self.trim:
                order = order[np.argsort(-inputs.lengths[order], kind="stable")]
            for start in range(0, len(order), size):
                rows = order[start : start + size]
                length = inputs.padded_length(rows) if self.trim else inputs.length
                batch = replace(inputs, length=length).batch(rows, size)
                yield rows, {name: array for name, array in batch.items() if name not in ("labels", "weights")}

    def stream(
        self,
        params: Parameters,
        items: Iterable[Item],
        encode: Callable[[list[Item]], Encoded],
        advance: Callable[[int], None] = ignore,
    ) -> Iterator[tuple[list[Item], Encoded, Any]]:
        """Yield (items, inputs, results) of a stream of any length, one window in memory at a time.

        Raises:
            BigsError: a result is not finite.
        """
        size = 0
        for window in windows_of(items):
            inputs = encode(window)
            # All batches of a stream have one size, which is smaller if the whole stream is only a few rows.
            size = self.batch_size if size else rows_at_once(len(inputs), self.batch_size)
            results = self(params, inputs, advance, size)
            if not all(np.isfinite(array).all() for array in jax.tree.leaves(results)):
                raise nonfinite_error("The model")
            yield window, inputs, results


class _Results:
    """Arrays that are filled batch by batch."""

    def __init__(self, inputs: Encoded, by_token: bool) -> None:
        self._inputs, self._by_token = inputs, by_token
        self.value: Any = None

    def add(self, rows: Array, result: Any) -> None:
        """Copy the results of `rows` to their places."""
        result = jax.tree.map(np.asarray, result)
        if self.value is None:
            count, first = (len(self._inputs.ids), 2) if self._by_token else (len(self._inputs), 1)
            self.value = jax.tree.map(lambda array: np.zeros((count, *array.shape[first:]), array.dtype), result)
        for whole, part in zip(jax.tree.leaves(self.value), jax.tree.leaves(result), strict=True):
            if not self._by_token:
                whole[rows] = part[: len(rows)]
                continue
            for row, tokens in zip(rows, part, strict=False):
                start, end = self._inputs.starts[row], self._inputs.starts[row + 1]
                whole[start:end] = tokens[: end - start]


def forward(apply: Apply, params: Parameters, batch: Batch) -> Outputs:
    """Return the outputs of a model for a batch; heads of masked words predict at its `positions` only."""
    named = {"positions": batch["positions"]} if "positions" in batch else {}
    return apply(params, batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids"), **named)


def windows_of(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield items in lists of at most `WINDOW` items and about `CHARACTERS` characters (the length of an item)."""
    held: list[Any] = []
    characters = 0
    for item in items:
        held.append(item)
        characters += len(item)
        if len(held) == WINDOW or characters >= CHARACTERS:
            yield held
            held, characters = [], 0
    if held:
        yield held


def rows_at_once(rows: int, most: int) -> int:
    """Return the batch size for this many rows in all: a single text need not pay for `most`."""
    return min(most, 1 << (rows - 1).bit_length() if rows > 1 else 1)
