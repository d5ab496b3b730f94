"""Sequence classification: a class for each text or pair of texts, or, in regression, a score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.core.numbers import shortest_float
from bigs_cli.core.wording import printable
from bigs_cli.data.encode import Encoded, encode_texts
from bigs_cli.models.config import BiGSConfig
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.items import PAIR, TEXT, TEXT_OR_PAIR, Item
from bigs_cli.tasks.labels import read_labels, text_columns
from bigs_cli.tasks.metrics import compute
from bigs_cli.tasks.reading import Table
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types.base import (
    Array,
    ErrorSize,
    ExampleScores,
    Lines,
    TaskType,
    class_scores,
    pairs_of,
    percent_text,
    softmax,
    value_metrics,
)

if TYPE_CHECKING:
    import jax
    from tokenizers import Tokenizer

_NARROW = 0.01  # of the range of labels: scores that differ less are one score, whatever they correlate with


@dataclass(frozen=True)
class TextExamples(Examples):
    """Texts or pairs of texts, each with a class or a score.

    `text_a` and `text_b` are n texts (`text_b` is None for single ones). `labels` `[n]` are int32 ids in the order of
    `Task.labels`, float32 scores, or None where the split has none. `ids` `[n]` count the rows of the source from 0,
    which is the `index` of the official GLUE test files. `skipped` rows were left out.
    """

    text_a: list[str]
    text_b: list[str] | None
    labels: Array | None
    ids: Array
    skipped: int = 0

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return self.labels is not None

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield id, text, pair (of pairs) and label (where there are labels)."""
        for i, text in enumerate(self.text_a):
            record: dict[str, Any] = {"id": int(self.ids[i]), "text": text}
            if self.text_b is not None:
                record["pair"] = self.text_b[i]
            if self.labels is not None:
                label = self.labels[i]
                record["label"] = shortest_float(label) if label.dtype == np.float32 else int(label)
            yield record


class SequenceClassification(TaskType):
    """Cross-entropy over classes, or, for a task without labels, regression with squared errors."""

    head = "sequence-classification"
    has_labels = True

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.takes = TEXT_OR_PAIR if not task.text_a else PAIR if task.text_b else TEXT
        answer = ("score",) if task.labels is None else ("prediction", "probability", "others")
        self.headers = ("text", *(("pair",) if self.takes is PAIR else ()), *answer)

    @classmethod
    def for_model(cls, config: BiGSConfig, task: Task | None = None) -> Self:
        """Return the type with the labels of a model; one label is a score."""
        result = super().for_model(config, task)
        return result if config.num_labels > 1 else cls(replace(result.task, labels=None))

    def examples_in(self, table: Table) -> TextExamples:
        """Return rows as texts, or pairs of texts."""
        text_a, text_b = text_columns(self.task, table)
        return TextExamples(
            text_a=table.texts(text_a),
            text_b=table.texts(text_b) if text_b else None,
            labels=read_labels(self.task, table),
            ids=np.array(table.ids, np.int64),
            skipped=table.skipped,
        )

    def encode(self, tokenizer: Tokenizer, examples: TextExamples, length: int) -> Encoded:
        """Encode texts; pairs that are too long lose tokens of the longer text."""
        return encode_texts(tokenizer, examples.text_a, examples.text_b, length, examples.labels)

    def loss(self, scores: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed cross-entropy, or squared error, of logits `[B, K]`."""
        if self.task.labels is not None:
            return super().loss(scores, labels, weights)
        from bigs_cli.models.losses import regression_sums

        return regression_sums(scores, labels, weights)

    def metrics(self, examples: TextExamples, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return the task's metrics of the class with the highest score, or of the score itself."""
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
        for place, shares in zip(scores.argmax(-1).tolist(), softmax(scores).round(6).tolist(), strict=True):
            yield {"prediction": names[place], "scores": dict(zip(names, shares, strict=True))}

    def label_name(self, label: Any) -> Any:
        """Return the name of a class; a score as it is."""
        return label if self.task.labels is None else self.task.labels[label]

    def example_scores(self, lines: Lines) -> ExampleScores:
        """Score classes as right or wrong; scores have no such."""
        labels, predictions = self.label_pairs(lines)
        if self.task.labels is None:
            return ExampleScores(len(labels), value_metrics(self.task, labels, predictions), None)
        return class_scores(self.task, labels, predictions)

    def label_pairs(self, lines: Lines) -> tuple[Array, Array]:
        """Return class ids, or scores, one pair for each line."""
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
        """Return the class, or about which score, is predicted for all lines."""
        if self.task.labels is None:
            labels, predictions = self.label_pairs(lines)
            narrow = np.ptp(predictions) <= _NARROW * np.ptp(labels)
            return f"about {predictions.mean():.3g}" if narrow else None
        answers = {line["prediction"] for line in lines}
        return f"“{answers.pop()}”" if len(answers) == 1 else None

    @property
    def error_size(self) -> ErrorSize:
        """Rank classes by the probability of the wrong one, scores by the distance."""
        if self.task.labels is None:
            return ErrorSize("Furthest off", "error", _distance, "{:.3g}".format)
        return super().error_size

    def probability(self, line: Mapping[str, Any]) -> float:
        """Return the probability of the predicted class."""
        scores = line.get("scores")
        return float(scores.get(line["prediction"], 0.0)) if isinstance(scores, dict) else 0.0

    def examples_of(self, items: Sequence[Item]) -> TextExamples:
        """Return items as texts, or pairs of texts (RequestError for a mixture)."""
        return texts_of(items)

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield one row; the second text of a pair that the table has no column for follows the first."""
        text_b = printable(item.text_b or "", 60)
        text = printable(item.text, 60)
        texts = (text, text_b) if self.takes is PAIR else (f"{text} | {text_b}".rstrip(" |"),)
        if self.task.labels is None:
            yield *texts, f"{answer['prediction']:.3f}"
            return
        chosen = answer["prediction"]
        others = sorted(
            ((share, label) for label, share in answer["scores"].items() if label != chosen), key=lambda pair: -pair[0]
        )
        rest = ", ".join(f"{label} {percent_text(share)}" for share, label in others[:4])
        yield *texts, chosen, percent_text(answer["scores"][chosen]), rest


def _distance(line: Mapping[str, Any]) -> float:
    return abs(float(line["label"]) - float(line["prediction"]))


def texts_of(items: Sequence[Item]) -> TextExamples:
    """Return items as texts, or pairs of texts.

    Raises:
        RequestError: some are pairs and some are not.
    """
    seconds = [item.text_b for item in items if item.text_b is not None]
    if seconds and len(seconds) < len(items):
        single = next(item for item in items if item.text_b is None)
        raise RequestError(f"{single.place} is a single text, and others are pairs. Ask for them one after the other.")
    return TextExamples([item.text for item in items], seconds or None, None, np.arange(len(items)))
