"""Only the file of a task type uses its name; other code uses the methods of the type."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import get_args

import pytest

from bigs_cli.models.config import Head
from bigs_cli.tasks import TASKS
from bigs_cli.tasks.types import TASK_TYPES, type_of
from tests.test_layering import sources

NAMES = {*TASK_TYPES, "texts", "tagged", "questions", "choices"}
CLASSES = {cls.__name__ for cls in TASK_TYPES.values()} | {
    *("TextExamples", "TokenExamples", "QuestionExamples", "ChoiceExamples")
}
OWN = "tasks/types/"
ARCHITECTURE = "models/"
"""Here the heads of the same names are defined: the shapes of their inputs (`BiGSConfig.has_choices`) and layers."""


def comparisons(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that compare with a type's name, match it in a `case`, or check for its classes."""
    for node in ast.walk(tree):
        compared: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared = [node.value]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
            names = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node.args[1])}
            yield from [node.lineno] if names & CLASSES else []
        for side in compared:
            values = side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else [side]
            if any(isinstance(value, ast.Constant) and value.value in NAMES for value in values):
                yield side.lineno


def test_no_other_file_compares_the_name_of_a_type() -> None:
    wrong = [
        f"{path}:{line}"
        for path, tree in sources().items()
        if not path.startswith((OWN, ARCHITECTURE))
        for line in comparisons(tree)
    ]
    assert not wrong


@pytest.mark.parametrize(
    "text",
    [
        'task.type == "token-classification"',
        'task.type in ("a", "multiple-choice")',
        "isinstance(examples, QuestionExamples | TextExamples)",
        'match task.type:\n    case "texts" | "choices":\n        pass',
    ],
)
def test_the_check_detects_violations(text: str) -> None:
    assert list(comparisons(ast.parse(text)))


def test_a_type_has_the_name_of_its_head() -> None:
    assert {name for name, kind in TASK_TYPES.items() if not (kind.multi_label or kind.embeds)} <= set(get_args(Head))
    assert all(type_of(task).head == task.type for task in TASKS.values())
