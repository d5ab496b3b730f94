"""What a head's answers need, whatever the head (`Answerer`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from bigs_cli.data.encode import Encoded
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.heads import Outputs
from bigs_cli.prediction.item import Item, Takes
from bigs_cli.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Answerer(Protocol):
    """One head: from items to the model's input, from its output to answers, and to what a person reads of them.

    `scores` are what `scores` below gave for every row of `inputs`, or `by_token` for every token of them.
    """

    @property
    def takes(self) -> Takes:
        """What is asked of it."""
        ...

    @property
    def by_token(self) -> bool:
        """Whether every token has scores, or every row."""
        ...

    @property
    def headers(self) -> tuple[str, ...]:
        """The columns of `table_rows`; those that hold numbers are named in `NUMBERS`."""
        ...

    def encode(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Encoded:
        """Return items as evaluation encodes them, in one or more rows each, or raise RequestError."""
        ...

    def scores(self, outputs: Outputs) -> Any:
        """Return what counts of a batch's outputs, inside the compiled function: one array or a tuple of them."""
        ...

    def answers(self, items: Sequence[Item], inputs: Encoded, scores: Any) -> Iterator[dict[str, Any]]:
        """Yield what is answered to each item: what JSON can say, under names that do not depend on the item."""
        ...

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield the rows of a table that show an answer, as many cells as `headers`."""
        ...


NUMBERS = ("probability", "score", "mask", "characters")


def predicting(form: str, config: BiGSConfig, task: Task | None = None, **changes: Any) -> Task:
    """Return a task without data for the labels of `config`: what a form of evaluation asks of one."""
    labels = None if config.num_labels == 1 else names_of(config)
    known = {"form": form, "title": "texts", "source": "", "metrics": (), "labels": labels}
    return Task(name="predict", no_answer=task is not None and task.no_answer, **(known | changes))  # pyright: ignore[reportArgumentType]


def names_of(config: BiGSConfig) -> tuple[str, ...]:
    """Return the names of the labels; those without names are LABEL_0, LABEL_1, …, as in their config.json."""
    return config.labels or tuple(f"LABEL_{i}" for i in range(config.num_labels))


def percent(share: float | None) -> str:
    """Return a probability as a table shows it."""
    return "–" if share is None else f"{share:.1%}"


def shown(text: str, most: int = 60) -> str:
    """Return a text as a table shows it: on one line, its end cut off if it is long."""
    from bigs_cli.reporting.console import printable

    return printable(text if len(text) <= most else f"{text[: most - 1]}…")
