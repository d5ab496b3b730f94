"""The interfaces of task types (`TaskType`) and of heads that `bigs predict` can use (`Pipeline`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.core.wording import printable
from bigs_cli.data.encode import Encoded
from bigs_cli.models.config import BiGSConfig, Head
from bigs_cli.recipe.groups import Loss
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.items import InputFormat, Item
from bigs_cli.tasks.metrics import METRICS
from bigs_cli.tasks.reading import Table
from bigs_cli.tasks.task import Task

if TYPE_CHECKING:
    import jax
    from tokenizers import Tokenizer

    from bigs_cli.models.heads import Outputs

Array = np.ndarray[Any, Any]
Lines = Sequence[Mapping[str, Any]]
"""Lines of a predictions.jsonl."""
Metric = Callable[[Array], float]

NUMBER_HEADERS = ("probability", "score", "mask", "characters")
"""The headers of numeric columns of `Pipeline.table_rows`."""


class Pipeline(ABC):
    """Maps texts to the answers of a head, for `bigs predict` and the Python API."""

    takes: InputFormat
    """The input format of the head."""
    headers: tuple[str, ...]
    """The column headers of `table_rows`; those of numeric columns are in `NUMBER_HEADERS`."""
    by_token: bool = False
    """Whether scores are per token rather than per row."""

    @abstractmethod
    def encode_items(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Encoded:
        """Encode items as model inputs, one or more rows each, or raise RequestError."""

    def scores(self, outputs: Outputs) -> Any:
        """Return the part of a batch's outputs that the answers need: an array or a tuple of arrays.

        This method is compiled by JAX.
        """
        return outputs.logits

    @abstractmethod
    def answer_items(self, items: Sequence[Item], inputs: Encoded, scores: Any, top: int) -> Iterator[dict[str, Any]]:
        """Yield the answer to each item as JSON values; `top` is the number of candidates to include."""

    @abstractmethod
    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield the table rows that show an answer, with one cell per header."""


@dataclass(frozen=True)
class ExampleScores:
    """The scores of `count` examples, which bootstraps and paired tests resample.

    Each of `metrics` maps indices `[m]` of examples, with repetitions, to its value over them. `right` `[n]` bool marks
    the examples that are entirely correct; None for regression.
    """

    count: int
    metrics: Mapping[str, Metric]
    right: Array | None

    def all_metrics(self) -> dict[str, float]:
        """Return every metric over all examples, as fractions."""
        every = np.arange(self.count)
        return {name: metric(every) for name, metric in self.metrics.items()}


@dataclass(frozen=True)
class ErrorRanking:
    """A ranking of wrong predictions: `of` returns the size of the error of a line, `text` formats it for `column`."""

    title: str
    column: str
    of: Callable[[Mapping[str, Any]], float]
    text: Callable[[float], str] = "{:.1%}".format


class TaskType(ABC):
    """Encoding, loss, metrics and predictions of the tasks of one type.

    In the methods, `examples` are of the type's own class and `inputs` are the result of `encode`. `scores` are
    float32: `[n, K]`, one row per row of `inputs`, or, if `by_token`, `[all tokens, K]` in the order of `inputs.ids`.
    `lines` are lines of predictions.jsonl.
    """

    head: ClassVar[Head]
    """The head of the model."""
    multi_label: ClassVar[bool] = False
    """Whether a text has any number of labels; such models have the same head as those with one class per text."""
    by_token: bool = False
    has_labels: ClassVar[bool] = False
    """Whether the model's config has `num_labels` and `labels`."""
    embeds: ClassVar[bool] = False
    """Whether the model learns sentence embeddings."""
    learns_from_teacher: ClassVar[bool] = False
    """Whether a model can learn the scores of a teacher (`distillation_loss`)."""
    labels_texts: ClassVar[bool] = False
    """Whether each text or pair of texts has one label: a class or a score."""
    unit: ClassVar[str] = "example"
    """The unit of `label_pairs`, which has one pair per unit."""
    right_name: ClassVar[str] = "accuracy"
    """The name of the metric that is the fraction of `ExampleScores.right`."""
    answer_keys: ClassVar[tuple[str, ...]] = ("prediction", "scores")
    """The keys of lines that `answers` yields; the others describe the example."""
    label_headers: ClassVar[tuple[str, ...]] = ("label",)
    """The headers of the cells of `comparison_cells` that precede the predictions."""
    aligned_cells: ClassVar[bool] = False
    """Whether the cells of `comparison_cells` have several lines, of which the nth of all cells belong together."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @classmethod
    def for_model(cls, config: BiGSConfig, task: Task | None = None) -> Self:
        """Return the type with the labels of a model in the order of its outputs; `task` is its training task.

        Labels without names are LABEL_0, LABEL_1, …, as in config.json.
        """
        labels = config.labels or tuple(f"LABEL_{i}" for i in range(config.num_labels))
        base = task or Task(name="predict", type=cls.head, title="texts", source="", metrics=(), labels=None)
        return cls(replace(base, labels=labels, threshold=config.label_threshold))

    # --- training and evaluation ------------------------------------------------------------------------------

    @abstractmethod
    def examples_in(self, table: Table) -> Examples:
        """Return the rows of a table as examples.

        They are unlabelled if the table has no label column, or the column contains no label.

        Raises:
            RequestError: a column is missing, or a text or label is not valid.
        """

    @abstractmethod
    def encode(self, tokenizer: Tokenizer, examples: Any, length: int) -> Encoded:
        """Encode examples as model inputs of at most `length` tokens, with labels if there are any."""

    def count_rows(self, tokenizer: Tokenizer, examples: Any, length: int) -> int:
        """Return the number of rows that `encode` returns."""
        return len(examples)

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the scores in a batch's outputs: `[B, …]`, or `[B, L, K]` by token."""
        return outputs.logits

    def loss(
        self, scores: jax.Array, labels: jax.Array, weights: jax.Array, settings: Loss
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed loss of a batch and other sums (`models/losses.py`); by default, the cross-entropy."""
        from bigs_cli.models.losses import classification_sums  # Reading a task must not import JAX.

        return classification_sums(scores, labels, weights, settings.label_smoothing)

    def distillation_loss(
        self, scores: jax.Array, teacher: jax.Array, weights: jax.Array, temperature: float
    ) -> jax.Array:
        """Return the summed difference of a batch's scores from those of a teacher; by default, as distributions."""
        from bigs_cli.models.losses import distillation

        return (distillation(scores, teacher, temperature) * weights).sum()

    def problem(self, config: BiGSConfig, examples: Any, settings: Loss) -> str | None:
        """Return a sentence that says why a model cannot be trained on `examples` with these settings of the loss."""
        return None

    def class_weights(self, labels: Array) -> Array:
        """Return the weight `[K]` of each class, n / (K · count) for n encoded labels; a class without labels has 0.

        Examples then have the mean weight 1.
        """
        labels = labels[labels >= 0]
        counts = np.bincount(labels, minlength=self.task.num_labels)
        return np.where(counts > 0, len(labels) / (len(counts) * np.maximum(counts, 1)), 0.0)

    def weigh(self, weights: jax.Array, labels: jax.Array, class_weights: jax.Array) -> jax.Array:
        """Multiply the weights of examples by those of their classes."""
        return weights * class_weights[labels]

    @abstractmethod
    def metrics(self, examples: Any, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return all metrics of the task as fractions; the first one selects the best checkpoint."""

    @abstractmethod
    def answers(self, examples: Any, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield the `prediction` for each example with its `scores`."""

    def predictions(self, examples: Any, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield the line of predictions.jsonl for each example: its record with labels by name, and the answer."""
        for record, answer in zip(examples.records(), self.answers(examples, inputs, scores), strict=True):
            if "label" in record:
                record["label"] = self.label_name(record["label"])
            yield {**record, **answer}

    def label_name(self, label: Any) -> Any:
        """Return the label of a record by name."""
        return label

    def label_text(self, label: Any) -> str:
        """Return the label of a record as one string."""
        return str(self.label_name(label))

    # --- comparing predictions --------------------------------------------------------------------------------

    @abstractmethod
    def example_scores(self, lines: Lines) -> ExampleScores:
        """Score each line, or raise RequestError for a line of another task."""

    def label_pairs(self, lines: Lines) -> tuple[Array, Array] | None:
        """Return labels and predictions `[n]`, which are class ids or scores; None if the type has neither.

        Raises:
            RequestError: a line is of another task.
        """
        return None

    def majority(self, lines: Lines) -> tuple[str, list[Any]] | None:
        """Return the most frequent label and the predictions of the majority baseline; None if there is no baseline."""
        return None

    def constant_answer(self, lines: Lines) -> str | None:
        """Return the prediction that all lines have in common; None if they differ."""
        return None

    @property
    def error_ranking(self) -> ErrorRanking | None:
        """The ranking of wrong predictions: by default by their `probability`; None: there are no wrong ones."""
        return ErrorRanking("Wrong with the highest probability", "probability", self.probability)

    def probability(self, line: Mapping[str, Any]) -> float:
        """Return the probability of the prediction; 0 if the line has none."""
        return 0.0

    def line_texts(self, line: Mapping[str, Any]) -> Iterator[str]:
        """Yield the texts of the example of a line: by default `text` and `pair`."""
        yield from (str(line[name]) for name in ("text", "pair") if name in line)

    def comparison_cells(self, lines: Lines) -> list[str]:
        """Return the cells that show the label of an example and its prediction in each of `lines`."""
        return [answer_text(lines[0].get("label")), *(answer_text(line.get("prediction")) for line in lines)]


class AnsweringType(TaskType, Pipeline):
    """A task type with which `bigs predict` answers questions about texts; the others only give embeddings."""

    @abstractmethod
    def examples_of(self, items: Sequence[Item]) -> Examples:
        """Convert items to examples without labels, or raise RequestError."""

    def encode_items(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Encoded:
        """Encode items as in evaluation."""
        return self.encode(tokenizer, self.examples_of(items), length)

    def answer_items(self, items: Sequence[Item], inputs: Encoded, scores: Any, top: int) -> Iterator[dict[str, Any]]:
        """Yield the answer to each item."""
        return self.answers(self.examples_of(items), inputs, scores)


def pairs_of(task: Task, pairs: Callable[[], Sequence[tuple[float, float]]]) -> tuple[Array, Array]:
    """Return labels and predictions `[n]` as arrays, from a function `pairs` that reads them from lines.

    Raises:
        RequestError: a line has no label, or a class that the task does not have.
    """
    try:
        array = np.array(pairs(), task.label_dtype).reshape(-1, 2)
    except (KeyError, TypeError, ValueError) as error:
        message = f"These predictions are not those of {task.title}: {error} is not one of its labels."
        raise RequestError(message) from error
    return array[:, 0], array[:, 1]


def class_scores(task: Task, labels: Array, predictions: Array) -> ExampleScores:
    """Return the scores of class ids `[n]` with the metrics of the task."""
    right = labels == predictions
    # Resampling computes the accuracy thousands of times, so average `right`, which is computed once, instead of
    # comparing again.
    return ExampleScores(len(right), {**value_metrics(task, labels, predictions), "accuracy": mean_of(right)}, right)


def value_metrics(task: Task, labels: Array, predictions: Array) -> dict[str, Metric]:
    """Return the metrics of the task for labels and predictions `[n]`."""

    def metric(name: str) -> Metric:
        return lambda rows: METRICS[name](labels[rows], predictions[rows])

    return {name: metric(name) for name in task.metrics}


def mean_of(values: Array) -> Metric:
    """Return the metric that is the mean of `values` `[n]`."""
    return lambda rows: float(values[rows].mean())


def foreign_predictions_error(task: Task, error: Exception) -> RequestError:
    """Return the error for lines of a task other than `task`."""
    return RequestError(f"These predictions are not those of {task.title}: a line has no valid prediction ({error}).")


def softmax(scores: Array) -> Array:
    """Return probabilities along the last axis, float64."""
    exponentials = np.exp(scores - scores.max(-1, keepdims=True), dtype=np.float64)
    return exponentials / exponentials.sum(-1, keepdims=True)


def answer_text(value: Any) -> str:
    """Format a label or a prediction for a table; a list of correct answers without duplicates."""
    if isinstance(value, list):
        return " │ ".join(dict.fromkeys(map(answer_text, value))) or "–"
    return f"{value:.3g}" if isinstance(value, float) else "–" if value in (None, "") else printable(str(value))


def percent_text(probability: float | None) -> str:
    """Format a probability for a table; None as a dash."""
    return "–" if probability is None else f"{probability:.1%}"
