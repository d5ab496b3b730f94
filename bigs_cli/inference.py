"""The inference engine: encoded rows → batches by length → device → results in the order of the rows.

Task evaluation, `bigs predict`, embeddings and pseudo-log-likelihoods all use `Engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

from bigs_cli.core.error_messages import nonfinite_error
from bigs_cli.data.encode import Encoded
from bigs_cli.models.functional import Apply, Parameters
from bigs_cli.models.heads import Outputs
from bigs_cli.models.sharding import all_devices, replicate, result_sharding, split_rows

Array = np.ndarray[Any, Any]
Batch = dict[str, Any]
Item = TypeVar("Item", bound=Any)

WINDOW = 4096
"""The number of items of a stream that are in memory at a time and share batches."""
CHARACTERS = 1 << 22
"""The number of characters in memory at a time: tokenization uses a few hundred bytes per token."""


def ignore(count: int) -> None:
    """Ignore progress."""


class Engine:
    """Applies a function to rows in batches of few shapes; compiled once per shape and called with any parameters.

    If the model masks its padding, the result of a row does not depend on the other rows of its batch.
    """

    def __init__(
        self,
        function: Callable[[Parameters, Batch], Any],
        batch_size: int,
        trim: bool,
        by_token: bool = False,
        mesh: jax.sharding.Mesh | None = None,
    ) -> None:
        """`function` returns an array or a tuple of arrays `[batch_size, …]`; if `by_token`, `[batch_size, L, …]`.

        `trim` pads a batch to its longest row instead of the full length, which changes the results of models that
        do not mask their padding. `mesh` is that of the parameters; None: they are copied to all devices. Each device
        computes a part of the rows.
        """
        self.batch_size, self.trim, self.by_token = batch_size, trim, by_token
        self._copies_params, self._mesh = mesh is None, mesh or all_devices()
        self.function = jax.jit(function, out_shardings=result_sharding(self._mesh))

    def __call__(
        self, params: Parameters, inputs: Encoded, advance: Callable[[int], None] = ignore, size: int | None = None
    ) -> Any:
        """Return the results in the order of `inputs`: arrays `[n, …]`, or, by token, `[all tokens, …]`.

        `advance` is called with the number of rows finished since the last call. `size` overrides the batch size of the
        engine. The next batch is dispatched to the device before the results of the previous one are awaited.
        """
        results = _Results(inputs, self.by_token)
        if self._copies_params:
            params = replicate(params, self._mesh)
        pending: tuple[Array, Any] | None = None
        for rows, batch in self.batches(inputs, size):
            dispatched = rows, self.function(params, split_rows(batch, self._mesh))
            if pending is not None:
                results.add(*pending)
                advance(len(pending[0]))
            pending = dispatched
        if pending is not None:
            results.add(*pending)
            advance(len(pending[0]))
        return results.value

    def batches(self, inputs: Encoded, size: int | None = None) -> Iterator[tuple[Array, Batch]]:
        """Yield (row indices, batch) such that every row occurs once. The last batch is filled up with empty rows.

        With `trim`, rows are sorted from the longest to the shortest, so that the partial batch is the cheapest one.
        """
        size = size or self.batch_size
        groups = inputs.groups
        for group in np.unique(groups):
            order = np.flatnonzero(groups == group)
            if self.trim:
                order = order[np.argsort(-inputs.lengths[order], kind="stable")]
            for start in range(0, len(order), size):
                rows = order[start : start + size]
                batch = (inputs.trimmed(rows) if self.trim else inputs).batch(rows, size)
                yield rows, {name: array for name, array in batch.items() if name not in ("labels", "weights")}

    def stream(
        self,
        params: Parameters,
        items: Iterable[Item],
        encode: Callable[[list[Item]], Encoded],
        advance: Callable[[int], None] = ignore,
    ) -> Iterator[tuple[list[Item], Encoded, Any]]:
        """Yield (items, inputs, results) of a stream of any length, with one window in memory at a time.

        Raises:
            BigsError: a result is not finite.
        """
        size = 0
        for window in windows_of(items):
            inputs = encode(window)
            # All batches of a stream have the same size, which is smaller if the stream has only a few rows.
            size = self.batch_size if size else fitting_batch_size(len(inputs), self.batch_size)
            results = self(params, inputs, advance, size)
            if not all(np.isfinite(array).all() for array in jax.tree.leaves(results)):
                raise nonfinite_error("The model")
            yield window, inputs, results


class _Results:
    """Result arrays, filled batch by batch."""

    def __init__(self, inputs: Encoded, by_token: bool) -> None:
        self._inputs, self._by_token = inputs, by_token
        self.value: Any = None

    def add(self, rows: Array, result: Any) -> None:
        """Copy the results of the rows with indices `rows`."""
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
    """Return the outputs of a model for a batch; masked-LM heads predict only at its `positions`, if it has them."""
    named = {"positions": batch["positions"]} if "positions" in batch else {}
    return apply(params, batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids"), **named)


def windows_of(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield lists of at most `WINDOW` items and about `CHARACTERS` characters, by the `len` of an item."""
    window: list[Any] = []
    characters = 0
    for item in items:
        window.append(item)
        characters += len(item)
        if len(window) == WINDOW or characters >= CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def fitting_batch_size(rows: int, maximum: int) -> int:
    """Return the batch size for `rows` rows in total: the next power of two, at most `maximum`."""
    return min(maximum, 1 << (rows - 1).bit_length() if rows > 1 else 1)
