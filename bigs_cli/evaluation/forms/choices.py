"""Beginnings with several endings, one of which is right."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bigs_cli.data.encode import Encoded, encode_texts
from bigs_cli.evaluation.forms.form import softmax
from bigs_cli.evaluation.metrics import compute
from bigs_cli.models.config import Head
from bigs_cli.models.heads import Outputs
from bigs_cli.models.losses import classification_sums
from bigs_cli.tasks.examples import Choices
from bigs_cli.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]


class ChoicesForm:
    """A `Form`: one score an ending, with the cross-entropy over the endings of a beginning."""

    head: Head = "multiple-choice"
    by_token = False

    def __init__(self, task: Task) -> None:
        self.task = task
        self.outputs = len(task.endings)

    def encode(self, tokenizer: Tokenizer, examples: Choices, length: int) -> Encoded:
        """Encode [CLS] beginning [SEP] ending [SEP] for each ending; the longer of both is cut."""
        first = [text for text in examples.first for _ in range(self.outputs)]
        endings = [ending for endings in examples.endings for ending in endings]
        made = encode_texts(tokenizer, first, endings, length, examples.labels)
        return dataclasses.replace(made, choices=self.outputs)

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the logits `[B, choices]`."""
        return outputs.logits

    def loss(self, scores: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed loss."""
        return classification_sums(scores, labels, weights)

    def metrics(self, examples: Choices, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return the task's metrics of the endings that score highest."""
        assert examples.labels is not None
        return compute(self.task.metrics, examples.labels, scores.argmax(-1))

    def predictions(self, examples: Choices, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield records with the place of the ending predicted, and the probability of each."""
        for record, row in zip(examples.records(), scores, strict=True):
            yield {**record, "prediction": int(row.argmax()), "scores": softmax(row).round(6).tolist()}
