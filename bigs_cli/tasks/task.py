"""The description of a labelled task (`Task`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bigs_cli.tasks.examples import Examples


@dataclass(frozen=True)
class Hub:
    """The location of a task on the Hugging Face hub; `splits` maps our split names to those of the hub."""

    config: str
    text_a: str
    text_b: str | None
    splits: Mapping[str, str]
    repo: str = "nyu-mll/glue"


@dataclass(frozen=True)
class Published:
    """Published dev scores, metric → percent, of models trained in the `setting`."""

    setting: Literal["512", "512 freeze", "128"]
    scores: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A labelled task: one row of the table in `glue.py`, or one short file. Its splits are train, dev, …"""

    name: str
    """The name in commands: ``mrpc``."""
    type: str = "sequence-classification"
    """The task type, a key of `tasks.types.TASK_TYPES`."""
    title: str
    """The printed name: ``MRPC``."""
    source: str
    """A link to the paper or page that defines the task."""
    labels: tuple[str, ...] | None
    """Class names in id order; None for regression, question answering and multiple choice."""
    metrics: tuple[str, ...]
    """Names from `tasks.metrics.METRICS`, or of metrics that the task type computes itself.

    The first selects the best checkpoint.
    """
    text_a: str = ""
    """The column of the (first) text."""
    text_b: str | None = None
    """The column of the second text of a pair."""
    negative: str | None = None
    """The column of a text that does not belong to `text_a`."""
    label: str = "label"
    """The column of the label."""
    endings: tuple[str, ...] = ()
    """The columns of the endings of `text_a`."""
    no_answer: bool = False
    """Whether questions may have no answer, written ""; version 2 of the scoring rules then applies."""
    classes_from: str = ""
    """A sentence on the origin of the labels, with a leading space, for the error on an unknown label."""
    objective: str | None = None
    """What sentence embeddings learn: the ``scores`` of pairs, or a ``ranking`` of texts."""
    dimensions: int | None = None
    """The number of first values to which sentence embeddings are truncated; None: they are not."""
    delimiter: str | None = None
    """The separator of several labels in one cell."""
    threshold: float = 0.5
    """The probability from which one of several labels is predicted."""
    digits: bool = True
    """Whether files and submissions may write labels as ids (0, 1) instead of names."""
    folder: str = ""
    """The name of the official folder."""
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Split → possible file names, the official one first."""
    headerless_columns: tuple[str, ...] = ()
    """The columns of files without a header line."""
    broken_rows: int = 0
    """The maximum number of rows with a wrong number of columns; the official sizes do not include such rows."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Split → official number of examples; for a generated task, the maximum."""
    hub: Hub | None = None
    """The location on the hub; None if the task is not there."""
    published: tuple[Published, ...] = ()
    """Published dev scores of BiGS, by setting."""
    start: str | None = None
    """The task whose model the published fine-tuning starts from, instead of the pretrained one."""
    generate: Callable[[str, str | None], Examples] | None = None
    """Generates a split from a text source (None: the task's own) for a task that has no files."""
    rows: Callable[[Path], Iterator[tuple[str, dict[str, Any]]]] | None = None
    """Reads one of `files` if they are not tables with the columns above.

    It yields (place, row), where a row maps the names of those columns to cells.
    """

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def num_labels(self) -> int:
        """The number of outputs of the task's head: its classes, or 1 for regression."""
        return 1 if self.labels is None else len(self.labels)

    @property
    def label_dtype(self) -> type[np.generic]:
        """The type of label arrays: int32 ids or float32 scores."""
        return np.float32 if self.labels is None else np.int32
