"""A model on a labelled task: every example once, whatever the batch size and the number of devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from bigs_cli.data.encode import Encoded
from bigs_cli.evaluation.metrics import compute
from bigs_cli.model.functional import Apply, Parameters
from bigs_cli.tasks.task import Task

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LabelledSplit:
    """A split of a task, ready for the model; `labels` `[n]` is None for unlabelled test splits."""

    name: str
    inputs: Encoded
    labels: Array | None


class TaskEvaluator:
    """Runs one model configuration on splits; compiled once per batch shape, for any parameters."""

    def __init__(self, apply: Apply, task: Task, batch_size: int, trim: bool) -> None:
        """`trim` shortens batches to their longest row: right only where padding changes nothing."""
        self.task = task
        self.batch_size = batch_size
        self.trim = trim

        def logits(params: Parameters, batch: dict[str, jax.Array]) -> jax.Array:
            return apply(params, batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]).logits

        self._logits = jax.jit(logits)

    def logits(self, params: Parameters, inputs: Encoded, advance: Callable[[int], None] = lambda n: None) -> Array:
        """Return the logits `[n, num_labels]` float32 of every example, in the order of `inputs`."""
        result = np.zeros((len(inputs), self.task.num_labels), np.float32)
        for rows, batch in inputs.in_order(self.batch_size, self.trim):
            result[rows] = np.asarray(self._logits(params, batch))[: len(rows)]
            advance(len(rows))
        return result

    def predictions(self, logits: Array) -> Array:
        """Return class ids `[n]`, or scores for regression."""
        return logits[:, 0] if self.task.kind == "regression" else logits.argmax(-1)

    def metrics(
        self, params: Parameters, splits: list[LabelledSplit], advance: Callable[[int], None] = lambda n: None
    ) -> dict[str, float]:
        """Return every metric of the task; those of further splits carry the split's suffix (`accuracy_mismatched`)."""
        result: dict[str, float] = {}
        for split in splits:
            if split.labels is None:
                raise ValueError(f"the split {split.name} has no labels to compare with")
            values = compute(
                self.task.metrics, split.labels, self.predictions(self.logits(params, split.inputs, advance))
            )
            suffix = split.name.removeprefix("dev")
            result |= {f"{name}{suffix}": value for name, value in values.items()}
        return result
