"""Texts and pairs of texts: a class each, or a score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bigs_cli.core.numbers import shortest_float
from bigs_cli.data.encode import Encoded, encode_texts
from bigs_cli.evaluation.forms.form import softmax
from bigs_cli.evaluation.metrics import compute
from bigs_cli.models.config import Head
from bigs_cli.models.heads import Outputs
from bigs_cli.models.losses import classification_sums, regression_sums
from bigs_cli.tasks.examples import Texts
from bigs_cli.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]


class TextsForm:
    """A `Form`: classification with the cross-entropy, or, of a task without labels, regression with squared errors."""

    head: Head = "sequence-classification"
    by_token = False

    def __init__(self, task: Task) -> None:
        self.task = task
        self.outputs = task.num_labels

    def encode(self, tokenizer: Tokenizer, examples: Texts, length: int) -> Encoded:
        """Encode texts; of pairs that are too long the longer text is cut."""
        return encode_texts(tokenizer, examples.first, examples.second, length, examples.labels)

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the logits `[B, K]`."""
        return outputs.logits

    def loss(self, scores: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed loss."""
        return (classification_sums if self.task.labels else regression_sums)(scores, labels, weights)

    def metrics(self, examples: Texts, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return the task's metrics of the highest class, or of the score itself."""
        assert examples.labels is not None
        return compute(self.task.metrics, examples.labels, self.answers(scores))

    def answers(self, scores: Array) -> Array:
        """Return class ids `[n]`, or scores."""
        return scores.argmax(-1) if self.task.labels else scores[:, 0]

    def predictions(self, examples: Texts, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield records with the probability of every class, or with the score predicted."""
        names = self.task.labels
        for record, answer, row in zip(examples.records(), self.answers(scores), scores, strict=True):
            if names is None:
                yield {**record, "prediction": shortest_float(answer)}
                continue
            if "label" in record:
                record["label"] = names[record["label"]]
            shares = dict(zip(names, softmax(row).round(6).tolist(), strict=True))
            yield {**record, "prediction": names[answer], "scores": shares}
