"""Words in sentences, each with a tag: named entities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import jax
import numpy as np

from bigs_cli.data.encode import Encoded
from bigs_cli.data.words import EncodedWords, encode_words
from bigs_cli.evaluation.entities import OUTSIDE, entity_scores
from bigs_cli.evaluation.forms.form import softmax
from bigs_cli.models.config import Head
from bigs_cli.models.heads import Outputs
from bigs_cli.models.losses import classification_sums
from bigs_cli.tasks.examples import Tagged
from bigs_cli.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]


class TaggedForm:
    """A `Form`: a class for the first piece of every word, with the cross-entropy.

    The further pieces of a word are not asked. Words that do not fit the length, and those that normalization leaves
    nothing of, count as predicted `O`.
    """

    head: Head = "token-classification"
    by_token = True

    def __init__(self, task: Task) -> None:
        assert task.labels is not None, f"{task.name} has no tags"
        self.labels = task.labels
        self.outputs = len(task.labels)

    def encode(self, tokenizer: Tokenizer, examples: Tagged, length: int) -> EncodedWords:
        """Encode sentences; what does not fit is cut."""
        return encode_words(tokenizer, examples.words, examples.tags, length)

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the logits `[B, L, K]`."""
        return outputs.logits

    def loss(self, scores: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed loss of the words."""
        return classification_sums(scores, labels, weights)

    def metrics(self, examples: Tagged, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return F1, precision and recall of the entities, and the accuracy of the tags, of all words."""
        assert examples.tags is not None
        truth = self._names(examples.tags)
        predicted = self._names(self.answers(examples, inputs, scores))
        hits = [a == b for true, mine in zip(truth, predicted, strict=True) for a, b in zip(true, mine, strict=True)]
        return {**entity_scores(truth, predicted), "accuracy": sum(hits) / max(len(hits), 1)}

    def answers(self, examples: Tagged, inputs: Encoded, scores: Array) -> list[list[int]]:
        """Return a class id for every word."""
        made = [[self.labels.index(OUTSIDE)] * len(words) for words in examples.words]
        for row, word, place in asked_words(inputs):
            made[row][word] = int(scores[place].argmax())
        return made

    def predictions(self, examples: Tagged, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield records with tags by name, and the probability of each one predicted: None for words not asked."""
        best = softmax(scores).max(-1).round(6)
        shares: list[list[float | None]] = [[None] * len(words) for words in examples.words]
        for row, word, place in asked_words(inputs):
            shares[row][word] = float(best[place])
        answers = self._names(self.answers(examples, inputs, scores))
        for record, tags, share in zip(examples.records(), answers, shares, strict=True):
            if "label" in record:
                record["label"] = self._names([record["label"]])[0]
            yield {**record, "prediction": tags, "scores": share}

    def _names(self, tags: list[list[int]]) -> list[list[str]]:
        return [[self.labels[tag] for tag in sentence] for sentence in tags]


def asked_words(inputs: Encoded) -> Iterator[tuple[int, int, int]]:
    """Yield (sentence, word in it, place among all tokens) of every word whose first piece the model reads."""
    words = cast(EncodedWords, inputs).words
    places = np.flatnonzero(words >= 0)
    rows = np.searchsorted(inputs.starts, places, side="right") - 1
    yield from zip(rows.tolist(), words[places].tolist(), places.tolist(), strict=True)
