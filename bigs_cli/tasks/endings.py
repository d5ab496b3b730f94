"""SWAG and CODAH: which of four endings continues a text.

Zellers et al. 2018 (https://arxiv.org/abs/1808.05326, files from https://github.com/rowanz/swagaf) and Chen et al. 2019
(https://arxiv.org/abs/1904.04365, files from https://github.com/Websail-NU/CODAH).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.delimited import read_cells
from bigs_cli.data.files import local_file
from bigs_cli.tasks.jsonl import good
from bigs_cli.tasks.labels import parse_choice
from bigs_cli.tasks.task import Hub, Task
from bigs_cli.tasks.tsv import find_columns
from bigs_cli.tasks.types.multiple_choice import ChoiceExamples


def read_endings(task: Task, path: Path) -> ChoiceExamples:
    """Read the examples of a table: CSV with quotes, or tab-separated values without quotes.

    Raises:
        RequestError: a column is missing, a row has another length, or a label is not the index of an ending; the
            message names file and line.
    """
    columns, rows = find_columns(task, path, good(read_cells(local_file(path), ragged=True)))
    first, endings = columns.index(task.text_a), [columns.index(name) for name in task.endings]
    label = columns.index(task.label) if task.label in columns else None
    texts: list[str] = []
    choices: list[list[str]] = []
    labels: list[int] = []
    for line, fields in rows:
        if len(fields) != len(columns):
            raise RequestError(f"{path}:{line}: {len(fields)} columns where the first line has {len(columns)}.")
        texts.append(fields[first])
        choices.append([fields[index] for index in endings])
        if label is not None:
            labels.append(parse_choice(task, fields[label], f"{path}:{line}"))
    if not texts:
        raise RequestError(f"{path} holds no examples. Fetch or make it again.")
    return ChoiceExamples(texts, choices, None if label is None else np.array(labels, np.int32))


_ENDINGS = ("ending0", "ending1", "ending2", "ending3")

SWAG = Task(
    name="swag",
    type="multiple-choice",
    title="SWAG",
    source="https://arxiv.org/abs/1808.05326",
    folder="swag",
    files={"train": ("train.csv",), "dev": ("val.csv",), "test": ("test.csv",)},
    read=read_endings,
    text_a="startphrase",
    endings=_ENDINGS,
    labels=None,
    metrics=("accuracy",),
    sizes={"train": 73546, "dev": 20006, "test": 20005},
    hub=Hub("regular", "startphrase", None, {"train": "train", "dev": "validation", "test": "test"}, "allenai/swag"),
)

CODAH = Task(
    name="codah",
    type="multiple-choice",
    title="CODAH",
    source="https://arxiv.org/abs/1904.04365",
    folder="codah",
    # The first of the five folds, unless the folder is a fold itself.
    files={split: (f"{split}.tsv", f"cv_split/fold_0/{split}.tsv") for split in ("train", "dev", "test")}
    | {"full": ("full_data.tsv",)},
    headless=("category", "prompt", *_ENDINGS, "label"),
    read=read_endings,
    text_a="prompt",
    endings=_ENDINGS,
    labels=None,
    metrics=("accuracy",),
    sizes={"train": 1665, "dev": 556, "test": 555, "full": 2776},
)
