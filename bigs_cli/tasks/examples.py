"""The examples of a split of a task, for all task types (`Examples`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class Examples(ABC):
    """n examples, in the order of their source; each task type has its own class.

    Fields that are lists or arrays have one entry per example; the first such field is a list. `notes` are sentences on
    changed or omitted examples.
    """

    notes: tuple[str, ...] = field(default=(), kw_only=True)

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[1].name))

    @property
    @abstractmethod
    def labelled(self) -> bool:
        """Whether the examples have labels."""

    def take(self, rows: Sequence[int] | np.ndarray[Any, Any]) -> Self:
        """Return the examples at `rows`, in their order."""
        taken: dict[str, Any] = {}
        for name in (each.name for each in fields(self)):
            value = getattr(self, name)
            if isinstance(value, np.ndarray):
                taken[name] = value[rows]
            elif isinstance(value, list):
                taken[name] = [value[row] for row in rows]
        return replace(self, **taken)

    @abstractmethod
    def records(self) -> Iterator[dict[str, Any]]:
        """Yield each example as JSON values: its `id`, its texts, and its `label` as stored here."""

    def trainable(self, where: str) -> Self:
        """Return the examples that can be used for training; error messages begin with `where`."""
        return self
