"""A model on a labelled task: every example once, whatever the batch size and the number of devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from bigs_cli.data.encode import Encoded
from bigs_cli.evaluation.forms import Form
from bigs_cli.models.functional import Apply, Parameters
from bigs_cli.tasks.examples import Examples

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Split:
    """A split of a task, and the same as the model reads it."""

    name: str
    examples: Examples
    inputs: Encoded


class TaskEvaluator:
    """Runs one model configuration on splits; compiled once per batch shape, for any parameters."""

    def __init__(
        self,
        apply: Apply,
        form: Form,
        batch_size: int,
        trim: bool,
        order: Sequence[int] | None = None,
        place: Callable[[dict[str, Any]], dict[str, Any]] = lambda batch: batch,
    ) -> None:
        """`trim` shortens batches to their longest row: right only where padding changes nothing.

        `order` is, for each label of the task, its place in the model's outputs; None: they have the same order.
        `place` lays a batch on the devices.
        """
        self.form, self._batch_size, self._trim, self._place = form, batch_size, trim, place

        def scores(params: Parameters, batch: dict[str, jax.Array]) -> jax.Array:
            outputs = apply(params, batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
            made = form.scores(outputs)
            return made if order is None else made[..., np.asarray(order)]

        self._scores = jax.jit(scores)

    def scores(self, params: Parameters, inputs: Encoded, advance: Callable[[int], None] = lambda n: None) -> Array:
        """Return float32 scores in the order of `inputs`: `[n, K]`, or by token `[all tokens, K]`."""
        rows_or_tokens = len(inputs.ids) if self.form.by_token else len(inputs)
        result = np.zeros((rows_or_tokens, self.form.outputs), np.float32)
        for rows, batch in inputs.in_order(self._batch_size, self._trim):
            kept = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
            made = np.asarray(self._scores(params, self._place(kept)))
            if self.form.by_token:
                for row, of_row in zip(rows, made, strict=False):
                    start, end = inputs.starts[row], inputs.starts[row + 1]
                    result[start:end] = of_row[: end - start]
            else:
                result[rows] = made[: len(rows)]
            advance(len(rows))
        return result

    def measure(
        self, params: Parameters, splits: Sequence[Split], advance: Callable[[int], None] = lambda n: None
    ) -> tuple[dict[str, dict[str, float]], dict[str, Array]]:
        """Return every metric of the task by labelled split, and the scores of each split."""
        metrics: dict[str, dict[str, float]] = {}
        scores: dict[str, Array] = {}
        for split in splits:
            if not split.examples.labelled:
                raise ValueError(f"the split {split.name} has no labels to compare with")
            scores[split.name] = self.scores(params, split.inputs, advance)
            metrics[split.name] = self.form.metrics(split.examples, split.inputs, scores[split.name])
        return metrics, scores

    def predictions(self, splits: Sequence[Split], scores: dict[str, Array]) -> Iterator[dict[str, Any]]:
        """Yield what `predictions.jsonl` says of every example of `splits`, its split first."""
        for split in splits:
            for record in self.form.predictions(split.examples, split.inputs, scores[split.name]):
                yield {"split": split.name, **record}
