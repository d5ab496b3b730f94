"""Sentence embeddings: texts that belong together, or have a high score, get similar vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.core.wording import shortest_float
from bigs_cli.data.encode import Encoded, encode_texts
from bigs_cli.models.config import BiGSConfig
from bigs_cli.recipe.groups import Loss
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.labels import read_labels
from bigs_cli.tasks.metrics import check_finite, compute, ranks, retrieval
from bigs_cli.tasks.reading import Table
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types.base import (
    Array,
    ErrorRanking,
    ExampleScores,
    Lines,
    TaskType,
    foreign_predictions_error,
    mean_of,
    pairs_of,
    value_metrics,
)

if TYPE_CHECKING:
    import jax
    from tokenizers import Tokenizer

    from bigs_cli.models.heads import Outputs


@dataclass(frozen=True)
class EmbeddingExamples(Examples):
    """Texts, each with the texts that it is compared with.

    `text_a`, `text_b` and `negatives` have n texts each; `text_b` belongs to `text_a`, and `negatives` do not; they are
    None if there are none. `labels` `[n]` float32 are the scores of pairs, or None.
    """

    text_a: list[str]
    text_b: list[str] | None
    negatives: list[str] | None
    labels: Array | None

    @property
    def labelled(self) -> bool:
        """Always true: a pair without a score belongs together."""
        return True

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield id, text, pair, negative and label (a score) of each example, as far as there are any."""
        for i, text in enumerate(self.text_a):
            record: dict[str, Any] = {"id": i, "text": text}
            for name, texts in (("pair", self.text_b), ("negative", self.negatives)):
                record |= {} if texts is None else {name: texts[i]}
            yield record if self.labels is None else {**record, "label": shortest_float(self.labels[i])}


class SentenceEmbedding(TaskType):
    """The mean of the last hidden state is trained, in one of three ways.

    Pairs with scores: the CoSENT loss. Pairs, with or without a negative: the multiple-negatives ranking loss, where
    the second texts of all other rows of a batch are negatives too. Single texts: the same, with each text paired with
    itself; dropout makes its two vectors differ (SimCSE, Gao et al. 2021, arXiv 2104.08821).
    """

    head = "encoder"
    embeds = True
    label_headers = ()

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.scored = "spearman" in task.metrics
        """Whether the dev set has scores; if not, it is evaluated as retrieval."""
        self.learns_scores = task.objective == "scores"

    def examples_in(self, table: Table) -> EmbeddingExamples:
        """Return rows as texts, pairs or triplets; those without a column of scores are unscored."""
        task = self.task
        table.require([task.text_a], f", which {task.title} needs")

        def texts(column: str | None) -> list[str] | None:
            return table.texts(column) if column and column in table.names else None

        pairs = texts(task.text_b)
        scored = pairs is not None and (self.scored or self.learns_scores)
        labels = read_labels(task, table) if scored and task.label in table.names else None
        return EmbeddingExamples(table.texts(task.text_a), pairs, texts(task.negative), labels)

    def encode(self, tokenizer: Tokenizer, examples: EmbeddingExamples, length: int) -> Encoded:
        """Encode the texts of a row one by one; a single text twice.

        The labels are scores, or ids of the second texts, which are equal for equal texts.
        """
        columns = [examples.text_a, examples.text_b or examples.text_a]
        if examples.negatives is not None:
            columns.append(examples.negatives)
        texts = [text for row in zip(*columns, strict=True) for text in row]
        ids: dict[str, int] = {}
        same = np.array([ids.setdefault(text, len(ids)) for text in columns[1]], np.int32)
        labels = same if examples.labels is None or not self.learns_scores else examples.labels
        return dataclasses.replace(encode_texts(tokenizer, texts, None, length, labels), choices=len(columns))

    def problem(self, config: BiGSConfig, examples: EmbeddingExamples, settings: Loss) -> str | None:
        """Check the dropout of a model for single texts, and the truncated dimensions."""
        if examples.text_b is None and config.hidden_dropout_prob == 0:
            return (
                "A single text is paired with itself, so only dropout makes its two vectors differ. Set, for example, "
                "--set dropout=0.1"
            )
        if max(settings.dimensions, default=0) >= config.hidden_size:
            return (
                f"loss.dimensions must be below the {config.hidden_size} dimensions of the model; they are "
                f"{', '.join(map(str, settings.dimensions))}."
            )
        return None

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the embeddings `[B, n, H]`, truncated to the `dimensions` of the task."""
        return outputs.embedding[..., : self.task.dimensions]

    def loss(
        self, scores: jax.Array, labels: jax.Array, weights: jax.Array, settings: Loss
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the loss of embeddings `[B, n, H]`; with `settings.dimensions`, the sum over truncated embeddings."""
        import jax

        from bigs_cli.models.losses import ranking_sums, score_order_sums

        def of(texts: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            if self.learns_scores:
                return score_order_sums(texts, labels, weights, settings.temperature)
            return ranking_sums(texts, labels, weights, settings.temperature)

        total, sums = of(scores)
        for size in settings.dimensions:
            total += of(scores[..., :size])[0]
        return jax.numpy.asarray(total), sums

    def metrics(self, examples: EmbeddingExamples, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return the correlations of cosine similarities with scores or, without scores, retrieval metrics."""
        check_finite(scores)
        unit = _unit(scores)
        if examples.text_b is None or (self.scored and examples.labels is None):
            raise RequestError(f"{self.task.title} needs pairs of texts{' with scores' if self.scored else ''}.")
        if self.scored and examples.labels is not None:
            return compute(self.task.metrics, examples.labels, (unit[:, 0] * unit[:, 1]).sum(-1))
        return self._retrieval(examples.text_a, _ranks(examples, unit)).all_metrics()

    def answers(self, examples: EmbeddingExamples, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield the cosine similarity of each scored pair, or the rank of the second text among all of the split."""
        unit = _unit(scores)
        if self.scored:
            yield from ({"prediction": shortest_float(value)} for value in (unit[:, 0] * unit[:, 1]).sum(-1))
        else:
            yield from ({"prediction": int(rank)} for rank in _ranks(examples, unit))

    def example_scores(self, lines: Lines) -> ExampleScores:
        """Score pairs by their correlations, or queries by the ranks of their documents."""
        if self.scored:
            labels, predictions = pairs_of(
                self.task, lambda: [(float(line["label"]), float(line["prediction"])) for line in lines]
            )
            return ExampleScores(len(labels), value_metrics(self.task, labels, predictions), None)
        try:
            return self._retrieval(
                [line["text"] for line in lines], np.array([int(line["prediction"]) for line in lines])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise foreign_predictions_error(self.task, error) from error

    def _retrieval(self, queries: Sequence[str], ranks_: Array) -> ExampleScores:
        values = retrieval(queries, ranks_)
        count = len(next(iter(values.values())))
        return ExampleScores(count, {name: mean_of(of) for name, of in values.items()}, None)

    @property
    def error_ranking(self) -> ErrorRanking | None:
        """Rank retrieval by the rank of the text that was to be found."""
        if self.scored:
            return None
        return ErrorRanking("Ranked lowest", "rank", lambda line: float(line["prediction"]), "{:,.0f}".format)

    def comparison_cells(self, lines: Lines) -> list[str]:
        """Return the prediction in each line."""
        return super().comparison_cells(lines)[1:]

    def line_texts(self, line: Mapping[str, Any]) -> Iterator[str]:
        """Yield the texts of an example."""
        yield from (str(line[name]) for name in ("text", "pair", "negative") if name in line)


def _unit(vectors: Array) -> Array:
    """Return embeddings `[n, k, H]` with length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _ranks(examples: EmbeddingExamples, unit: Array) -> Array:
    """Return the rank `[n]`, from 1, of the second text of each row among all different texts but first ones.

    `unit` `[n, k, H]` are embeddings of length 1.
    """
    columns = [examples.text_b or examples.text_a, *([examples.negatives] if unit.shape[1] > 2 else [])]
    documents: dict[str, int] = {}
    vectors = []
    for column, texts in enumerate(columns, 1):
        for row, text in enumerate(texts or ()):
            if text not in documents:
                documents[text] = len(documents)
                vectors.append(unit[row, column])
    targets = np.array([documents[text] for text in columns[0] or ()])
    return ranks(unit[:, 0], np.array(vectors), targets)
