"""Multi-label classification: any number of labels for each text or pair of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.data.encode import Encoded
from bigs_cli.recipe.groups import Loss
from bigs_cli.tasks.items import Item
from bigs_cli.tasks.labels import read_label_sets
from bigs_cli.tasks.metrics import MULTI_LABEL, check_finite
from bigs_cli.tasks.reading import Table
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types.base import (
    Array,
    ErrorRanking,
    ExampleScores,
    Lines,
    foreign_predictions_error,
    mean_of,
    percent_text,
)
from bigs_cli.tasks.types.sequence_classification import TextExamples, TextType

if TYPE_CHECKING:
    import jax


class MultiLabelClassification(TextType):
    """Binary cross-entropy of each label. Labels whose probability is at least `Task.threshold` are predicted."""

    multi_label = True

    def __init__(self, task: Task) -> None:
        super().__init__(task, ("predictions", "others"))

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, in the order of the outputs."""
        return self.task.labels or ()

    def read_labels(self, table: Table) -> Array | None:
        """Return int32 `[n, K]`, 1 for each label that applies."""
        return read_label_sets(self.task, table)

    def loss(
        self, scores: jax.Array, labels: jax.Array, weights: jax.Array, settings: Loss
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed binary cross-entropy of logits `[B, K]`."""
        from bigs_cli.models.losses import multi_label_sums

        return multi_label_sums(scores, labels, weights, settings.label_smoothing)

    def distillation_loss(
        self, scores: jax.Array, teacher: jax.Array, weights: jax.Array, temperature: float
    ) -> jax.Array:
        """Return the difference from the teacher's probabilities, a mean over the labels."""
        from bigs_cli.models.losses import binary_distillation

        weights = weights.reshape(len(scores), -1)
        return (binary_distillation(scores, teacher, temperature) * weights).sum() / scores.shape[1]

    def class_weights(self, labels: Array) -> Array:
        """Return the weights `[K, 2]` of texts without and with each label, n / (2 · count) for n texts."""
        counts = np.stack([(labels == 0).sum(0), (labels == 1).sum(0)], 1)
        return np.where(counts > 0, len(labels) / (2 * np.maximum(counts, 1)), 0.0)

    def weigh(self, weights: jax.Array, labels: jax.Array, class_weights: jax.Array) -> jax.Array:
        """Return the weights `[B, K]` of each label of each text."""
        return weights[:, None] * (class_weights[:, 0] * (1 - labels) + class_weights[:, 1] * labels)

    def metrics(self, examples: TextExamples, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return micro and macro F1, and the accuracy: the fraction of texts with exactly the right labels."""
        assert examples.labels is not None
        check_finite(scores)
        return self._scores(examples.labels == 1, self._probabilities(scores) >= self.task.threshold).all_metrics()

    def _probabilities(self, scores: Array) -> Array:
        return 1 / (1 + np.exp(-scores.astype(np.float64)))

    def _scores(self, labels: Array, predictions: Array) -> ExampleScores:
        right = (labels == predictions).all(1)
        metrics = {
            name: lambda rows, metric=metric: metric(labels[rows], predictions[rows])
            for name, metric in MULTI_LABEL.items()
        }
        return ExampleScores(len(right), {**metrics, "accuracy": mean_of(right)}, right)

    def answers(self, examples: TextExamples, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield `prediction`, a list of labels, and `scores`, the probability of each label."""
        for probabilities in self._probabilities(scores):
            chosen = np.flatnonzero(probabilities >= self.task.threshold)
            yield {
                "prediction": [self.names[i] for i in chosen],
                "scores": dict(zip(self.names, probabilities.round(6).tolist(), strict=True)),
            }

    def label_name(self, label: Any) -> Any:
        """Return the names of labels."""
        return [self.names[i] for i in label]

    def label_text(self, label: Any) -> str:
        """Return the names of labels, separated by commas."""
        return ", ".join(self.label_name(label)) or "no label"

    def example_scores(self, lines: Lines) -> ExampleScores:
        """Score the labels of each line."""
        try:
            return self._scores(self._sets(lines, "label"), self._sets(lines, "prediction"))
        except (KeyError, TypeError, ValueError) as error:
            raise foreign_predictions_error(self.task, error) from error

    def _sets(self, lines: Lines, key: str) -> Array:
        """Return bool `[n, K]` from the lists of labels in lines."""
        sets = np.zeros((len(lines), len(self.names)), bool)
        for row, line in zip(sets, lines, strict=True):
            if not isinstance(line[key], list):
                raise TypeError(line[key])
            row[[self.names.index(name) for name in line[key]]] = True
        return sets

    def majority(self, lines: Lines) -> tuple[str, list[Any]] | None:
        """Return the most frequent label, as the only one of each text."""
        counts = Counter(name for line in lines for name in line["label"])
        if not counts:
            return None
        name = counts.most_common(1)[0][0]
        return name, [[name]] * len(lines)

    def constant_answer(self, lines: Lines) -> str | None:
        """Return the labels that are predicted for all lines."""
        answers = {tuple(line["prediction"]) for line in lines}
        return (", ".join(answers.pop()) or "no label") if len(answers) == 1 else None

    @property
    def error_ranking(self) -> ErrorRanking:
        """Rank by the number of labels that are missing or wrong."""
        return ErrorRanking("Most wrong labels", "wrong labels", _wrong_labels, "{:.0f}".format)

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield one row, with the predicted labels and the most probable others."""

        def text(names: list[str]) -> str:
            ranked = sorted(names, key=lambda name: -answer["scores"][name])[:4]
            return ", ".join(f"{name} {percent_text(answer['scores'][name])}" for name in ranked)

        others = [name for name in answer["scores"] if name not in answer["prediction"]]
        yield *self.text_cells(item), text(answer["prediction"]) or "–", text(others)


def _wrong_labels(line: Mapping[str, Any]) -> float:
    return float(len(set(line["label"]) ^ set(line["prediction"])))
