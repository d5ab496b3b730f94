"""SQuAD: questions about paragraphs of Wikipedia, answered by spans of the paragraph; in version 2, some have none.

Rajpurkar et al. 2016 (https://arxiv.org/abs/1606.05250) and 2018 (https://arxiv.org/abs/1806.03822); files from
https://rajpurkar.github.io/SQuAD-explorer/. The test sets are not public.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bigs_cli.core.errors import RequestError, check_unicode
from bigs_cli.core.files import parse_json
from bigs_cli.tasks.task import Hub, Task


def squad_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the questions of an official file.

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
    for a, article in enumerate(_part(file, "data", list, f"{path}")):
        for p, paragraph in enumerate(_part(article, "paragraphs", list, f"{path}, article {a}")):
            where = f"{path}, article {a}, paragraph {p}"
            context = _part(paragraph, "context", str, where)
            for asked in _part(paragraph, "qas", list, where):
                name = _part(asked, "id", str, where)
                place = f"{path}, question {name}"
                question = _part(asked, "question", str, place)
                given = [] if asked.get("is_impossible") else _part(asked, "answers", list, place)
                answers = {
                    "text": [_part(one, "text", str, place) for one in given],
                    "answer_start": [_part(one, "answer_start", int, place) for one in given],
                }
                yield place, {"id": name, "question": question, "context": context, "answers": answers}


def _part(node: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(node, dict) or not isinstance(node.get(key), kind):
        raise RequestError(f"{where}: '{key}' ({kind.__name__}) is missing. Is this SQuAD in the official layout?")
    if isinstance(node[key], str):
        check_unicode(node[key], where)
    return node[key]


_SQUAD = Task(
    name="squad",
    type="question-answering",
    title="SQuAD",
    source="https://arxiv.org/abs/1606.05250",
    folder="squad",
    files={"train": ("train-v1.1.json",), "dev": ("dev-v1.1.json",)},
    rows=squad_rows,
    text_a="question",
    text_b="context",
    label="answers",
    labels=None,
    metrics=("f1", "exact"),
    sizes={"train": 87599, "dev": 10570},
    hub=Hub("plain_text", "question", "context", {"train": "train", "dev": "validation"}, "rajpurkar/squad"),
)
SQUAD = (
    _SQUAD,
    replace(
        _SQUAD,
        name="squad2",
        title="SQuAD 2.0",
        source="https://arxiv.org/abs/1806.03822",
        folder="squad2",
        files={"train": ("train-v2.0.json",), "dev": ("dev-v2.0.json",)},
        no_answer=True,
        sizes={"train": 130319, "dev": 11873},
        hub=Hub("squad_v2", "question", "context", {"train": "train", "dev": "validation"}, "rajpurkar/squad_v2"),
    ),
)
