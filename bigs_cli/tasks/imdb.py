"""IMDB: whether a film review is positive.

Maas et al. 2011, https://ai.stanford.edu/~amaas/data/sentiment/. There is no official dev set; as is common, the test
set serves as one. Files have one JSON object per line with `text` and `label` (0 negative, 1 positive), or come from
the hub.
"""

from __future__ import annotations

from pathlib import Path

from bigs_cli.tasks.jsonl import text_in, texts_of
from bigs_cli.tasks.task import Hub, Task
from bigs_cli.tasks.types.sequence_classification import TextExamples


def read_reviews(task: Task, path: Path) -> TextExamples:
    """Read the reviews in a file of JSON lines.

    Raises:
        RequestError: a line is not an object with a text, or its label is invalid; the message names file and line.
    """
    return texts_of(task, path, task.label, lambda row, where: (text_in(row, task.text_a, where), None))


def _files(name: str) -> tuple[str, ...]:
    return tuple(f"{start}{name}{end}" for start in ("", "imdb-") for end in (".jsonl", ".jsonl.gz"))


IMDB = Task(
    name="imdb",
    title="IMDB",
    source="https://ai.stanford.edu/~amaas/data/sentiment/",
    folder="imdb",
    files={"train": _files("train"), "dev": _files("test")},
    read=read_reviews,
    text_a="text",
    labels=("neg", "pos"),
    metrics=("accuracy",),
    sizes={"train": 25000, "dev": 25000},
    hub=Hub("plain_text", "text", None, {"train": "train", "dev": "test"}, "stanfordnlp/imdb"),
)
