"""The zip file for the GLUE server: eleven files of test predictions (https://gluebenchmark.com/faq).

Each has lines `index<TAB>prediction`, in the order of the official test file: words for MNLI, AX, QNLI and RTE, 0 or 1
for CoLA, SST-2, MRPC, QQP and WNLI, a number from 0 to 5 for STS-B.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigs_cli.core.errors import BigsError
from bigs_cli.core.files import atomic_write
from bigs_cli.tasks import TASKS
from bigs_cli.tasks.task import Task


@dataclass(frozen=True)
class Part:
    """One file of the zip: a test split of a task, and the task whose model predicts it (by default the same)."""

    file: str
    task: str
    split: str = "test"
    model: str = ""

    @property
    def model_task(self) -> str:
        """The task whose model predicts the labels."""
        return self.model or self.task


PARTS = (
    Part("CoLA.tsv", "cola"),
    Part("SST-2.tsv", "sst2"),
    Part("MRPC.tsv", "mrpc"),
    Part("QQP.tsv", "qqp"),
    Part("STS-B.tsv", "stsb"),
    Part("MNLI-m.tsv", "mnli"),
    Part("MNLI-mm.tsv", "mnli", "test_mismatched"),
    Part("QNLI.tsv", "qnli"),
    Part("RTE.tsv", "rte"),
    Part("WNLI.tsv", "wnli"),
    Part("AX.tsv", "ax", model="mnli"),
)


def part_lines(part: Part, predictions: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Return the lines of one file: from `predictions`, lines of predictions.jsonl, or a filler if they are None.

    The server requires every file. A filler predicts the first class, or a score of 0, for all rows.

    Raises:
        BigsError: the predictions are not those of the rows of the official test set.
    """
    task = TASKS[part.task]
    size = task.sizes[part.split]
    if predictions is None:
        filler = "0.000" if task.labels is None else _format(task, task.labels[0])
        return ["index\tprediction", *(f"{index}\t{filler}" for index in range(size))]
    ids = [int(line["id"]) for line in predictions]
    if ids != list(range(size)):
        raise BigsError(
            f"The official {part.split} set of {task.title} has {size} rows, numbered from 0; the {len(ids)} "
            "predictions do not have these numbers. The server would reject them. Use the official file."
        )
    return ["index\tprediction", *(f"{line['id']}\t{_format(task, line['prediction'])}" for line in predictions)]


def write_submission(path: Path, files: Mapping[str, Sequence[str]]) -> None:
    """Write the zip file; `files` maps the file name of every part to its lines. Equal lines give equal bytes.

    Raises:
        ValueError: a file is missing.
    """
    if set(files) != {part.file for part in PARTS}:
        raise ValueError("a submission needs all of its files")
    with atomic_write(path) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in PARTS:
            entry = zipfile.ZipInfo(part.file, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, "\n".join(files[part.file]) + "\n")


def _format(task: Task, prediction: Any) -> str:
    if task.labels is None:
        return f"{min(max(float(prediction), 0.0), 5.0):.3f}"
    return str(task.labels.index(prediction)) if task.digits else str(prediction)
