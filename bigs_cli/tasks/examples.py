"""What reading a split of a task gives, whatever its type (`Examples`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class Examples(ABC):
    """n examples, in the order of their source; each task type has a class of its own.

    The fields of the classes that are lists or arrays have an entry for each example; the first of them is a list.
    `notes` are sentences about what reading changed or left out.
    """

    notes: tuple[str, ...] = field(default=(), kw_only=True)

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[1].name))

    @property
    @abstractmethod
    def labelled(self) -> bool:
        """Whether there are labels to compare predictions with."""

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
        """Yield each example, ready for JSON: its `id`, its texts, and its `label` as it is held here."""

    def trainable(self, where: str) -> Self:
        """Return the examples that can be trained on; `where` opens an error message."""
        return self
