"""How each form of task meets the model: one class a form, in a file of its own."""

from __future__ import annotations

from collections.abc import Callable

from bigs_cli.evaluation.forms.choices import ChoicesForm
from bigs_cli.evaluation.forms.form import Form
from bigs_cli.evaluation.forms.questions import QuestionsForm
from bigs_cli.evaluation.forms.tagged import TaggedForm
from bigs_cli.evaluation.forms.texts import TextsForm
from bigs_cli.tasks.task import Task

__all__ = ["FORMS", "Form", "form_of"]

FORMS: dict[str, Callable[[Task], Form]] = {
    "texts": TextsForm,
    "tagged": TaggedForm,
    "questions": QuestionsForm,
    "choices": ChoicesForm,
}
"""What `Task.form` names."""


def form_of(task: Task) -> Form:
    """Return how `task` meets the model."""
    return FORMS[task.form](task)
