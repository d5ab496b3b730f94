"""The task types, one file each: examples, encoding, loss, metrics, predictions and how `bigs predict` shows them."""

from __future__ import annotations

import functools

from bigs_cli.models.config import BiGSConfig
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types.base import TaskType
from bigs_cli.tasks.types.multi_label_classification import MultiLabelClassification
from bigs_cli.tasks.types.multiple_choice import MultipleChoice
from bigs_cli.tasks.types.question_answering import QuestionAnswering
from bigs_cli.tasks.types.sentence_embedding import SentenceEmbedding
from bigs_cli.tasks.types.sequence_classification import SequenceClassification
from bigs_cli.tasks.types.token_classification import TokenClassification

__all__ = ["TASK_TYPES", "TaskType", "type_of", "type_of_model"]

TASK_TYPES: dict[str, type[TaskType]] = {
    "sequence-classification": SequenceClassification,
    "multi-label-classification": MultiLabelClassification,
    "token-classification": TokenClassification,
    "question-answering": QuestionAnswering,
    "multiple-choice": MultipleChoice,
    "sentence-embedding": SentenceEmbedding,
}
"""Name → task type; `Task.type` is one of these names."""


@functools.lru_cache(maxsize=64)
def type_of(task: Task) -> TaskType:
    """Return the type of `task`, with its labels and metrics: the same object for the same task."""
    return TASK_TYPES[task.type](task)


def type_of_model(config: BiGSConfig) -> type[TaskType] | None:
    """Return the task type of models with this config; None for a head without tasks."""
    shape = config.head, config.multi_label
    return next((kind for kind in TASK_TYPES.values() if (kind.head, kind.multi_label) == shape), None)
