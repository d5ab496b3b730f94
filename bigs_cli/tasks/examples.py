"""What reading a split of a task gives, whatever its type (`Examples`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np


class Examples(ABC):
    """n examples, in the order of their source; each task type has a class of its own.

    `notes` are sentences about what reading changed or left out.
    """

    notes: tuple[str, ...] = ()

    @property
    @abstractmethod
    def labelled(self) -> bool:
        """Whether there are labels to compare predictions with."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, rows: Sequence[int] | np.ndarray[Any, Any]) -> Self:
        """Return the examples at `rows`, in their order."""

    @abstractmethod
    def records(self) -> Iterator[dict[str, Any]]:
        """Yield each example, ready for JSON: its `id`, its texts, and its `label` as it is held here."""

    def trainable(self, where: str) -> Self:
        """Return the examples that can be trained on; `where` opens an error message."""
        return self
