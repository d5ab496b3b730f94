"""Sequence classification: a class or, in regression, a score for each text or pair of texts."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.core.wording import printable, shortest_float
from bigs_cli.data.encode import Encoded, encode_texts
from bigs_cli.models.config import BiGSConfig
from bigs_cli.recipe.groups import Loss
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.items import PAIR, TEXT, TEXT_OR_PAIR, Item
from bigs_cli.tasks.labels import read_labels, text_columns
from bigs_cli.tasks.metrics import compute
from bigs_cli.tasks.reading import Table
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types.base import (
    AnsweringType,
    Array,
    ErrorRanking,
    ExampleScores,
    Lines,
    class_scores,
    pairs_of,
    percent_text,
    softmax,
    value_metrics,
)

if TYPE_CHECKING:
    import jax
    from tokenizers import Tokenizer

# Predicted scores count as constant if their range is at most this fraction of the range of the labels.
_NARROW = 0.01


@dataclass(frozen=True)
class TextExamples(Examples):
    """Texts or pairs of texts, each with a class or a score.

    `text_a` and `text_b` have n texts each (`text_b` is None for single texts). `labels` `[n]` are int32 ids in the
    order of `Task.labels` or float32 scores; for several labels per text, `[n, K]` int32 is 1 for each label that
    applies. They are None if the split has none. `ids` `[n]` are the row numbers in the source, counted from 0, which
    are the `index` of the official GLUE test files.
    """

    text_a: list[str]
    text_b: list[str] | None
    labels: Array | None
    ids: Array

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return self.labels is not None

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield id, text, pair (for pairs) and label (if there are labels) of each example."""
        for i, text in enumerate(self.text_a):
            record: dict[str, Any] = {"id": int(self.ids[i]), "text": text}
            if self.text_b is not None:
                record["pair"] = self.text_b[i]
            if self.labels is not None:
                record["label"] = _plain(self.labels[i])
            yield record


def _plain(label: Any) -> Any:
    """Return a label as a JSON value: a score, a class id, or the ids of several labels."""
    if label.ndim:
        return np.flatnonzero(label).tolist()
    return shortest_float(label) if label.dtype == np.float32 else int(label)


class TextType(AnsweringType):
    """What task types for texts or pairs of texts share; `answer_headers` are the headers of the answers."""

    head = "sequence-classification"
    has_labels = True
    learns_from_teacher = True

    def __init__(self, task: Task, answer_headers: tuple[str, ...]) -> None:
        super().__init__(task)
        self.takes = TEXT_OR_PAIR if not task.text_a else PAIR if task.text_b else TEXT
        self.headers = ("text", *(("pair",) if self.takes is PAIR else ()), *answer_headers)

    def examples_in(self, table: Table) -> TextExamples:
        """Return rows as texts, or pairs of texts."""
        text_a, text_b = text_columns(self.task, table)
        return TextExamples(
            text_a=table.texts(text_a),
            text_b=table.texts(text_b) if text_b else None,
            labels=self.read_labels(table),
            ids=np.array(table.ids, np.int64),
        )

    @abstractmethod
    def read_labels(self, table: Table) -> Array | None:
        """Return the labels in a table, or None if no row has one."""

    def encode(self, tokenizer: Tokenizer, examples: TextExamples, length: int) -> Encoded:
        """Encode texts or pairs; in pairs, the longer text is truncated first."""
        return encode_texts(tokenizer, examples.text_a, examples.text_b, length, examples.labels)

    def examples_of(self, items: Sequence[Item]) -> TextExamples:
        """Convert items to texts or pairs of texts (RequestError for a mixture)."""
        return texts_of(items)

    def text_cells(self, item: Item) -> tuple[str, ...]:
        """Return the cells of the texts. Without a column for pairs, the second text of a pair follows the first."""
        text, text_b = printable(item.text, 60), printable(item.text_b or "", 60)
        return (text, text_b) if self.takes is PAIR else (f"{text} | {text_b}".rstrip(" |"),)


class SequenceClassification(TextType):
    """Cross-entropy over classes, or, for a task without classes, regression with squared errors."""

    labels_texts = True

    def __init__(self, task: Task) -> None:
        super().__init__(task, ("score",) if task.labels is None else ("prediction", "probability", "others"))

    @classmethod
    def for_model(cls, config: BiGSConfig, task: Task | None = None) -> Self:
        """Return the type with the labels of a model; one label means regression."""
        result = super().for_model(config, task)
        return result if config.num_labels > 1 else cls(replace(result.task, labels=None))

    def read_labels(self, table: Table) -> Array | None:
        """Return class ids or scores `[n]`."""
        return read_labels(self.task, table)

    def loss(
        self, scores: jax.Array, labels: jax.Array, weights: jax.Array, settings: Loss
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed cross-entropy or, in regression, squared error of logits `[B, K]`."""
        if self.task.labels is not None:
            return super().loss(scores, labels, weights, settings)
        from bigs_cli.models.losses import regression_sums

        return regression_sums(scores, labels, weights)

    def distillation_loss(
        self, scores: jax.Array, teacher: jax.Array, weights: jax.Array, temperature: float
    ) -> jax.Array:
        """Return the difference from the teacher's classes or, in regression, the squared difference of the scores."""
        if self.task.labels is not None:
            return super().distillation_loss(scores, teacher, weights, temperature)
        from bigs_cli.models.losses import regression_sums

        return regression_sums(scores, teacher[:, 0], weights)[0]

    def metrics(self, examples: TextExamples, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return the metrics of the classes with the highest scores or, in regression, of the scores."""
        assert examples.labels is not None
        return compute(self.task.metrics, examples.labels, self.values(scores))

    def values(self, scores: Array) -> Array:
        """Return the predicted class ids `[n]`, or scores."""
        return scores.argmax(-1) if self.task.labels else scores[:, 0]

    def answers(self, examples: TextExamples, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield `prediction`, a label or a score, and `scores`, the probability of each label."""
        names = self.task.labels
        if names is None:
            yield from ({"prediction": shortest_float(score)} for score in scores[:, 0])
            return
        for label, probabilities in zip(scores.argmax(-1).tolist(), softmax(scores).round(6).tolist(), strict=True):
            yield {"prediction": names[label], "scores": dict(zip(names, probabilities, strict=True))}

    def label_name(self, label: Any) -> Any:
        """Return the name of a class; return a score unchanged."""
        return label if self.task.labels is None else self.task.labels[label]

    def example_scores(self, lines: Lines) -> ExampleScores:
        """Score each class as correct or wrong; in regression, there are only metrics."""
        labels, predictions = self.label_pairs(lines)
        if self.task.labels is None:
            return ExampleScores(len(labels), value_metrics(self.task, labels, predictions), None)
        return class_scores(self.task, labels, predictions)

    def label_pairs(self, lines: Lines) -> tuple[Array, Array]:
        """Return class ids or scores, one pair per line."""
        ids = {name: i for i, name in enumerate(self.task.labels or ())}
        value = float if self.task.labels is None else ids.__getitem__
        return pairs_of(self.task, lambda: [(value(line["label"]), value(line["prediction"])) for line in lines])

    def majority(self, lines: Lines) -> tuple[str, list[Any]] | None:
        """Return the most frequent class."""
        if self.task.labels is None:
            return None
        answer = Counter(line["label"] for line in lines).most_common(1)[0][0]
        return str(answer), [answer] * len(lines)

    def constant_answer(self, lines: Lines) -> str | None:
        """Return the class, or the approximate score, that is predicted for all lines."""
        if self.task.labels is None:
            labels, predictions = self.label_pairs(lines)
            narrow = np.ptp(predictions) <= _NARROW * np.ptp(labels)
            return f"about {predictions.mean():.3g}" if narrow else None
        answers = {line["prediction"] for line in lines}
        return f"“{answers.pop()}”" if len(answers) == 1 else None

    @property
    def error_ranking(self) -> ErrorRanking | None:
        """Rank classes by the probability of the wrong prediction, scores by their distance from the label."""
        if self.task.labels is None:
            return ErrorRanking("Largest errors", "error", _distance, "{:.3g}".format)
        return super().error_ranking

    def probability(self, line: Mapping[str, Any]) -> float:
        """Return the probability of the predicted class."""
        scores = line.get("scores")
        return float(scores.get(line["prediction"], 0.0)) if isinstance(scores, dict) else 0.0

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield one row."""
        texts = self.text_cells(item)
        if self.task.labels is None:
            yield *texts, f"{answer['prediction']:.3f}"
            return
        chosen = answer["prediction"]
        others = sorted(
            ((value, label) for label, value in answer["scores"].items() if label != chosen), key=lambda pair: -pair[0]
        )
        rest = ", ".join(f"{label} {percent_text(value)}" for value, label in others[:4])
        yield *texts, chosen, percent_text(answer["scores"][chosen]), rest


def _distance(line: Mapping[str, Any]) -> float:
    return abs(float(line["label"]) - float(line["prediction"]))


def texts_of(items: Sequence[Item]) -> TextExamples:
    """Convert items to texts or pairs of texts.

    Raises:
        RequestError: some items are pairs and others are not.
    """
    text_b = [item.text_b for item in items if item.text_b is not None]
    if text_b and len(text_b) < len(items):
        single = next(item for item in items if item.text_b is None)
        raise RequestError(f"{single.place} is a single text, but others are pairs. Predict them separately.")
    return TextExamples([item.text for item in items], text_b or None, None, np.arange(len(items)))
