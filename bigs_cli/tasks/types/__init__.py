"""The task types, one file each: examples, encoding, loss, metrics, predictions and how `bigs predict` shows them."""

from __future__ import annotations

import functools

from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types.base import TaskType
from bigs_cli.tasks.types.multiple_choice import MultipleChoice
from bigs_cli.tasks.types.question_answering import QuestionAnswering
from bigs_cli.tasks.types.sequence_classification import SequenceClassification
from bigs_cli.tasks.types.token_classification import TokenClassification

__all__ = ["TASK_TYPES", "TaskType", "type_of"]

TASK_TYPES: dict[str, type[TaskType]] = {
    cls.head: cls for cls in (SequenceClassification, TokenClassification, QuestionAnswering, MultipleChoice)
}
"""Name → task type; `Task.type` is one of these names."""


@functools.lru_cache(maxsize=64)
def type_of(task: Task) -> TaskType:
    """Return the type of `task`, with its labels and metrics: the same object for the same task."""
    return TASK_TYPES[task.type](task)
