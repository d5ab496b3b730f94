"""What a labelled task is (`Task`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bigs_cli.tasks.examples import Examples


@dataclass(frozen=True)
class Hub:
    """Where a task lies on the Hugging Face hub; `splits` maps our names to the hub's."""

    config: str
    text_a: str
    text_b: str | None
    splits: Mapping[str, str]
    repo: str = "nyu-mll/glue"


@dataclass(frozen=True)
class Published:
    """One published row: the `setting` it was trained in and its dev scores, metric → percent."""

    setting: Literal["512", "512 freeze", "128"]
    scores: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A labelled task: one row of the table in `glue.py`, or one short file. Its splits are train, dev, …"""

    name: str
    """As typed: ``mrpc``."""
    type: str = "sequence-classification"
    """Its type: a key of `tasks.types.TASK_TYPES`."""
    title: str
    """As printed: ``MRPC``."""
    source: str
    """A link to the paper or page that defines the task."""
    labels: tuple[str, ...] | None
    """Class names in id order; None for regression, question answering and multiple choice."""
    metrics: tuple[str, ...]
    """Names in `tasks.metrics`, or of the type's own metrics; checkpoints are selected by the first."""
    text_a: str = ""
    """Header of the column with the (first) text."""
    text_b: str | None = None
    """Header of the column with the second text of a pair."""
    label: str = "label"
    """Header of the column with the label."""
    endings: tuple[str, ...] = ()
    """Headers of the columns with the endings of `text_a`."""
    no_answer: bool = False
    """Questions may have none: the answer is then "", and version 2 of the rules for answers counts."""
    classes_from: str = ""
    """Where the labels come from: added to the sentence about one that is unknown, after a space."""
    digits: bool = True
    """Files and submissions write labels as ids (0, 1), not only as words."""
    folder: str = ""
    """The official folder's name."""
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Split → file names to look for, the official one first."""
    headless: tuple[str, ...] = ()
    """The columns of a file whose first line is no header."""
    broken_rows: int = 0
    """Rows a file may hold with a wrong number of columns; the official sizes leave them out."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Split → official number of examples; the most there can be for a generated task."""
    hub: Hub | None = None
    """Where the task lies on the hub; None if it does not."""
    published: tuple[Published, ...] = ()
    """Published dev scores of BiGS, best known setting first."""
    start: str | None = None
    """The task whose model the published fine-tuning starts from, instead of the pretrained one."""
    generate: Callable[[str, str | None], Examples] | None = None
    """Generates a split from a text source (None: the task's own) for a task that has no files."""
    rows: Callable[[Path], Iterator[tuple[str, dict[str, Any]]]] | None = None
    """Yields (place, row) of one of `files` that is not a table with the columns above, under their names."""

    @property
    def num_labels(self) -> int:
        """The number of outputs of the task's head: its classes, or 1 for regression."""
        return 1 if self.labels is None else len(self.labels)

    @property
    def label_dtype(self) -> type[np.generic]:
        """The type labels are held in: int32 ids, or float32 scores."""
        return np.float32 if self.labels is None else np.int32
