"""IMDB: whether a film review is positive.

Maas et al. 2011, https://ai.stanford.edu/~amaas/data/sentiment/. There is no official dev set; as is common, the test
set serves as one. Files have one JSON object per line with `text` and `label` (0 negative, 1 positive), or come from
the hub.
"""

from __future__ import annotations

from bigs_cli.tasks.task import Hub, Task


def _files(name: str) -> tuple[str, ...]:
    return tuple(f"{start}{name}{end}" for start in ("", "imdb-") for end in (".jsonl", ".jsonl.gz"))


IMDB = Task(
    name="imdb",
    title="IMDB",
    source="https://ai.stanford.edu/~amaas/data/sentiment/",
    folder="imdb",
    files={"train": _files("train"), "dev": _files("test")},
    text_a="text",
    labels=("neg", "pos"),
    metrics=("accuracy",),
    sizes={"train": 25000, "dev": 25000},
    hub=Hub("plain_text", "text", None, {"train": "train", "dev": "test"}, "stanfordnlp/imdb"),
)
