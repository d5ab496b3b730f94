"""What every task type has (`TaskType`), and every head that answers texts (`Pipeline`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.encode import Encoded
from bigs_cli.models.config import BiGSConfig, Head
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
"""The headers of `Pipeline.table_rows` whose columns are numbers."""


class Pipeline(Protocol):
    """From texts to what a head answers, for `bigs predict` and the Python API."""

    @property
    def takes(self) -> InputFormat:
        """What the head reads."""
        ...

    @property
    def by_token(self) -> bool:
        """Whether every token has scores, or every row."""
        ...

    @property
    def headers(self) -> tuple[str, ...]:
        """The columns of `table_rows`; those of numbers are in `NUMBER_HEADERS`."""
        ...

    def encode_items(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Encoded:
        """Return items as model inputs, one or more rows each, or raise RequestError."""
        ...

    def scores(self, outputs: Outputs) -> Any:
        """Return the part of a batch's outputs that answers need (compiled): one array or a tuple of them."""
        ...

    def answer_items(self, items: Sequence[Item], inputs: Encoded, scores: Any, top: int) -> Iterator[dict[str, Any]]:
        """Yield the answer to each item, ready for JSON; `top` is the number of candidates where there are many."""
        ...

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield the rows of a table that show an answer, with as many cells as `headers`."""
        ...


@dataclass(frozen=True)
class ExampleScores:
    """The predictions for `count` examples, scored one by one: what bootstraps and paired tests resample.

    `metrics` take indices `[m]` of examples, with repetitions, and return the value over these. `right` `[n]` bool
    says which examples are entirely right; None for regression.
    """

    count: int
    metrics: Mapping[str, Metric]
    right: Array | None

    def all_metrics(self) -> dict[str, float]:
        """Return every metric over all examples, as fractions."""
        every = np.arange(self.count)
        return {name: metric(every) for name, metric in self.metrics.items()}


@dataclass(frozen=True)
class ErrorSize:
    """How wrong predictions are ranked: `of` gives the size of a line's error, `text` shows it in `column`."""

    title: str
    column: str
    of: Callable[[Mapping[str, Any]], float]
    text: Callable[[float], str] = "{:.1%}".format


class TaskType(ABC):
    """How tasks of one type are learned, measured, compared and used.

    `examples` are of the type's own class. `inputs` are what `encode` makes of them. `scores` are float32, one row for
    each row of `inputs`, `[n, K]`, or, if `by_token`, one for each token, `[all tokens, K]` in the order of
    `inputs.ids`. `lines` are lines of predictions.jsonl.
    """

    head: ClassVar[Head]
    """The head of the model, which is also the name of the type."""
    by_token: bool = False
    has_labels: ClassVar[bool] = False
    """Whether the model's config has `num_labels` and `labels`."""
    unit: ClassVar[str] = "example"
    """What `label_pairs` has one pair for."""
    right_name: ClassVar[str] = "accuracy"
    """What the share of `ExampleScores.right` is called."""
    takes: InputFormat
    headers: tuple[str, ...]

    def __init__(self, task: Task) -> None:
        self.task = task

    @classmethod
    def for_model(cls, config: BiGSConfig, task: Task | None = None) -> Self:
        """Return the type with the labels of a model, in the order of its outputs; `task` is what it was trained for.

        Labels without names are LABEL_0, LABEL_1, …, as in config.json.
        """
        labels = config.labels or tuple(f"LABEL_{i}" for i in range(config.num_labels))
        known = task or Task(name="predict", type=cls.head, title="texts", source="", metrics=(), labels=None)
        return cls(replace(known, labels=labels))

    # --- training and evaluation ------------------------------------------------------------------------------

    @abstractmethod
    def examples_in(self, table: Table) -> Examples:
        """Return the rows of a table as examples; without labels, if it has no column of them or no label in it.

        Raises:
            RequestError: a column is missing, or a text or label is not valid.
        """

    @abstractmethod
    def encode(self, tokenizer: Tokenizer, examples: Any, length: int) -> Encoded:
        """Return examples as model inputs of at most `length` tokens, with labels where there are any."""

    def count_rows(self, tokenizer: Tokenizer, examples: Any, length: int) -> int:
        """Return the number of rows that `encode` makes."""
        return len(examples)

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the scores in a batch's outputs: `[B, K]`, or `[B, L, K]` by token."""
        return outputs.logits

    def loss(self, scores: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed loss of a batch and further sums, as `models/losses.py` does: the cross-entropy."""
        from bigs_cli.models.losses import classification_sums  # Here, as reading a task needs no JAX.

        return classification_sums(scores, labels, weights)

    @abstractmethod
    def metrics(self, examples: Any, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return every metric of the task, as fractions; the first selects the checkpoint."""

    @abstractmethod
    def answers(self, examples: Any, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield the `prediction` for each example, and its `scores`."""

    def predictions(self, examples: Any, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield the line of predictions.jsonl for each example: its record, with labels by name, and the answer."""
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
        """Score lines one by one, or raise RequestError if one is not of this task."""

    def label_pairs(self, lines: Lines) -> tuple[Array, Array] | None:
        """Return labels and predictions `[n]`, class ids or scores; None if the type has neither.

        Raises:
            RequestError: a line is not of this task.
        """
        return None

    def majority(self, lines: Lines) -> tuple[str, list[Any]] | None:
        """Return the most frequent label, and the predictions of always answering it; None if there is no such."""
        return None

    def constant_answer(self, lines: Lines) -> str | None:
        """Return the answer that all lines share; None if there are several."""
        return None

    @property
    def error_size(self) -> ErrorSize:
        """How to rank wrong predictions: by default, by their `probability`."""
        return ErrorSize("Wrong with the highest probability", "probability", self.probability)

    def probability(self, line: Mapping[str, Any]) -> float:
        """Return the probability that the model gave to its prediction, 0 where the line has none."""
        return 0.0

    # --- `bigs predict` ---------------------------------------------------------------------------------------

    @abstractmethod
    def examples_of(self, items: Sequence[Item]) -> Examples:
        """Return items as examples without labels, or raise RequestError."""

    def encode_items(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Encoded:
        """Return items encoded as in evaluation."""
        return self.encode(tokenizer, self.examples_of(items), length)

    def answer_items(self, items: Sequence[Item], inputs: Encoded, scores: Any, top: int) -> Iterator[dict[str, Any]]:
        """Yield the answer to each item."""
        return self.answers(self.examples_of(items), inputs, scores)

    @abstractmethod
    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield the rows of a table that show an answer, with as many cells as `headers`."""


def pairs_of(task: Task, pairs: Callable[[], Sequence[tuple[float, float]]]) -> tuple[Array, Array]:
    """Return the labels and predictions `[n]` that `pairs` makes of lines.

    Raises:
        RequestError: a line has no label, or names a class that the task does not have.
    """
    try:
        both = np.array(pairs(), task.label_dtype).reshape(-1, 2)
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"These predictions are not those of {task.title}: {error} is no label of it.") from error
    return both[:, 0], both[:, 1]


def class_scores(task: Task, labels: Array, predictions: Array) -> ExampleScores:
    """Return the scores of class ids `[n]` by the task's metrics."""
    right = labels == predictions
    # Resampling computes the accuracy thousands of times, so without the input checks of scikit-learn.
    return ExampleScores(len(right), {**value_metrics(task, labels, predictions), "accuracy": mean_of(right)}, right)


def value_metrics(task: Task, labels: Array, predictions: Array) -> dict[str, Metric]:
    """Return the task's metrics of labels and predictions `[n]`."""

    def metric(name: str) -> Metric:
        return lambda places: METRICS[name](labels[places], predictions[places])

    return {name: metric(name) for name in task.metrics}


def mean_of(values: Array) -> Metric:
    """Return the metric that is the mean of `values` `[n]`."""
    return lambda places: float(values[places].mean())


def foreign_predictions(task: Task, error: Exception) -> RequestError:
    """Return the error for lines that are not of `task`."""
    return RequestError(f"These predictions are not those of {task.title}: a line has no or another answer ({error}).")


def softmax(scores: Array) -> Array:
    """Return probabilities along the last axis, float64."""
    likely = np.exp(scores - scores.max(-1, keepdims=True), dtype=np.float64)
    return likely / likely.sum(-1, keepdims=True)


def percent_text(share: float | None) -> str:
    """Return a probability as a table shows it."""
    return "–" if share is None else f"{share:.1%}"
