"""What reading a split of a task gives: n examples, in the order of their source.

One class for each form a task can have. They have in common what `Examples` names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from bigs_cli.core.numbers import shortest_float

Array = np.ndarray[Any, Any]

NOWHERE = -1
"""The place of an answer that does not stand in its text."""


class Examples(Protocol):
    """n examples of any form."""

    @property
    def labelled(self) -> bool:
        """Whether there is something to compare predictions with."""
        ...

    def __len__(self) -> int: ...

    def take(self, rows: Sequence[int] | Array) -> Self:
        """Return the examples at `rows`, in their order."""
        ...

    def records(self) -> Iterator[Mapping[str, Any]]:
        """Yield each example as what JSON can say: its `id`, its texts, and its `label` as it is held here."""
        ...


@dataclass(frozen=True)
class Texts:
    """Texts or pairs of texts, each with a class or a score.

    `first` and `second` are n texts (`second` is None for single ones). `labels` `[n]` are int32 ids in the order of
    `Task.labels`, float32 scores, or None where the split has none. `ids` `[n]` count the rows of the source from 0,
    which is the `index` of the official GLUE test files. `skipped` rows were left out.
    """

    first: list[str]
    second: list[str] | None
    labels: Array | None
    ids: Array
    skipped: int = 0

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return self.labels is not None

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: Sequence[int] | Array) -> Texts:
        """Return the examples at `rows`."""
        return Texts(
            [self.first[i] for i in rows],
            None if self.second is None else [self.second[i] for i in rows],
            None if self.labels is None else self.labels[rows],
            self.ids[rows],
            self.skipped,
        )

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield id, text, pair (of pairs) and label (where there are labels)."""
        for i, text in enumerate(self.first):
            record: dict[str, Any] = {"id": int(self.ids[i]), "text": text}
            if self.second is not None:
                record["pair"] = self.second[i]
            if self.labels is not None:
                label = self.labels[i]
                record["label"] = shortest_float(label) if label.dtype == np.float32 else int(label)
            yield record


@dataclass(frozen=True)
class Tagged:
    """Sentences cut into words, each word with a tag.

    `words` are n lists; `tags`, alike in shape, are ids in the order of `Task.labels`, or None.
    """

    words: list[list[str]]
    tags: list[list[int]] | None

    @property
    def labelled(self) -> bool:
        """Whether there are tags."""
        return self.tags is not None

    def __len__(self) -> int:
        return len(self.words)

    def take(self, rows: Sequence[int] | Array) -> Tagged:
        """Return the sentences at `rows`."""
        return Tagged([self.words[i] for i in rows], None if self.tags is None else [self.tags[i] for i in rows])

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield id, words and label: the tags."""
        for i, words in enumerate(self.words):
            yield {"id": i, "words": words} | ({} if self.tags is None else {"label": self.tags[i]})


@dataclass(frozen=True)
class Questions:
    """Questions about a text, answered by a part of it.

    `answers[i]` are (text, place in characters where it begins, or `NOWHERE`) of every right answer; none: the text
    does not say. `notes` are sentences about what reading them changed or left out.
    """

    ids: list[str]
    questions: list[str]
    contexts: list[str]
    answers: list[list[tuple[str, int]]] | None
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether there are answers."""
        return self.answers is not None

    def __len__(self) -> int:
        return len(self.questions)

    def take(self, rows: Sequence[int] | Array) -> Questions:
        """Return the questions at `rows`."""
        ids, questions, contexts = ([column[i] for i in rows] for column in (self.ids, self.questions, self.contexts))
        answers = None if self.answers is None else [self.answers[i] for i in rows]
        return Questions(ids, questions, contexts, answers, self.notes)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield id, text (the question), pair (what it is about), and label: the texts of the right answers.

        And `places`: the characters where these begin, None for one that is not in the text.
        """
        for i, question in enumerate(self.questions):
            record: dict[str, Any] = {"id": self.ids[i], "text": question, "pair": self.contexts[i]}
            if self.answers is not None:
                places = [None if at == NOWHERE else at for _, at in self.answers[i]]
                record |= {"label": [text for text, _ in self.answers[i]], "places": places}
            yield record


@dataclass(frozen=True)
class Choices:
    """Beginnings and their possible endings, as many for each, one of which is right.

    `first` are n texts, `endings` n lists of the same length, `labels` `[n]` int32 the right one, or None.
    """

    first: list[str]
    endings: list[list[str]]
    labels: Array | None

    @property
    def labelled(self) -> bool:
        """Whether the right endings are known."""
        return self.labels is not None

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: Sequence[int] | Array) -> Choices:
        """Return the examples at `rows`."""
        labels = None if self.labels is None else self.labels[rows]
        return Choices([self.first[i] for i in rows], [self.endings[i] for i in rows], labels)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield id, text, choices, and label: the place of the right one."""
        for i, text in enumerate(self.first):
            record: dict[str, Any] = {"id": i, "text": text, "choices": self.endings[i]}
            yield record if self.labels is None else {**record, "label": int(self.labels[i])}
