"""SQuAD: questions about paragraphs of Wikipedia, answered by spans of the paragraph or, in version 2, by no answer.

Rajpurkar et al. 2016 (https://arxiv.org/abs/1606.05250) and 2018 (https://arxiv.org/abs/1806.03822); files from
https://rajpurkar.github.io/SQuAD-explorer/. The test sets are not public.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bigs_cli.core.errors import RequestError, check_unicode
from bigs_cli.core.files import parse_json
from bigs_cli.tasks.task import Hub, Task
from bigs_cli.tasks.types.question_answering import QuestionExamples, place_answers


def read_squad(task: Task, path: Path) -> QuestionExamples:
    """Read the questions of an official file.

    Raises:
        RequestError: the file is invalid; the message names the line, or the article and paragraph, or the question.
    """
    try:
        file = parse_json(path.read_bytes())  # in UTF-8, UTF-16 or UTF-32
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}:{error.lineno} is not JSON ({error.msg}).") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8 text ({error}). Convert it, or download it again.") from None
    except ValueError as error:
        raise RequestError(f"{path} is not JSON ({error}).") from None
    ids: list[str] = []
    questions: list[str] = []
    contexts: list[str] = []
    answers: list[list[tuple[str, int]]] = []
    for a, article in enumerate(_part(file, "data", list, f"{path}")):
        for p, paragraph in enumerate(_part(article, "paragraphs", list, f"{path}, article {a}")):
            where = f"{path}, article {a}, paragraph {p}"
            context = _part(paragraph, "context", str, where)
            for entry in _part(paragraph, "qas", list, where):
                ids.append(_part(entry, "id", str, where))
                here = f"{path}, question {ids[-1]}"
                questions.append(_part(entry, "question", str, here))
                contexts.append(context)
                nodes = [] if entry.get("is_impossible") else _part(entry, "answers", list, here)
                pairs = [(_part(node, "text", str, here), _part(node, "answer_start", int, here)) for node in nodes]
                answers.append(check_answers(task, pairs, here))
    if not ids:
        raise RequestError(f"{path} holds no examples. Fetch or make it again.")
    return place_answers(QuestionExamples(ids, questions, contexts, answers), str(path))


def check_answers(task: Task, pairs: Sequence[tuple[str, int]], where: str) -> list[tuple[str, int]]:
    """Return `pairs`, the answers (text, start) to a question; an error message starts with `where`.

    Raises:
        RequestError: there is no answer, which the task does not allow.
    """
    if not pairs and not task.no_answer:
        raise RequestError(f"{where} has no answer, which {task.title} does not allow.")
    return list(pairs)


def _part(node: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(node, dict) or not isinstance(node.get(key), kind):
        raise RequestError(f"{where}: '{key}' ({kind.__name__}) is missing. Is this SQuAD in the official layout?")
    if isinstance(node[key], str):
        check_unicode(node[key], where)
    return node[key]


def _hub(config: str, repo: str) -> Hub:
    return Hub(config, "question", "context", {"train": "train", "dev": "validation"}, repo)


SQUAD: tuple[Task, ...] = (
    Task(
        name="squad",
        type="question-answering",
        title="SQuAD",
        source="https://arxiv.org/abs/1606.05250",
        folder="squad",
        files={"train": ("train-v1.1.json",), "dev": ("dev-v1.1.json",)},
        read=read_squad,
        text_a="question",
        text_b="context",
        label="answers",
        labels=None,
        metrics=("f1", "exact"),
        sizes={"train": 87599, "dev": 10570},
        hub=_hub("plain_text", "rajpurkar/squad"),
    ),
    Task(
        name="squad2",
        type="question-answering",
        title="SQuAD 2.0",
        source="https://arxiv.org/abs/1806.03822",
        folder="squad2",
        files={"train": ("train-v2.0.json",), "dev": ("dev-v2.0.json",)},
        read=read_squad,
        text_a="question",
        text_b="context",
        label="answers",
        labels=None,
        no_answer=True,
        metrics=("f1", "exact"),
        sizes={"train": 130319, "dev": 11873},
        hub=_hub("squad_v2", "rajpurkar/squad_v2"),
    ),
)
