"""What is asked of a model (`Item`), and making it from what a caller gives: texts, pairs, dicts, rows of a table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bigs_cli.core.errors import RequestError, check_unicode
from bigs_cli.core.wording import counted
from bigs_cli.prediction.columns import Columns, find_columns
from bigs_cli.tasks.task import Task

Takes = Literal["text", "words", "texts", "pair", "question", "endings"]
"""What a model reads: one text; one text, or its words; a text or a pair; a pair; a question and a text; endings."""

Asked = str | tuple[str, str] | list[str] | Mapping[str, Any]
"""What a Python caller gives: a text, a pair, the words of a sentence, or a dict with these under their names."""


@dataclass(frozen=True)
class Item:
    """One thing to be answered.

    `first` is the text, its words, or the question; `second` the other text of a pair, or the text a question is about;
    `endings` are what may follow `first`. `columns` go on into the record of the answer; `place` opens an error.
    """

    first: str | list[str]
    second: str | None
    endings: tuple[str, ...]
    columns: Mapping[str, Any]
    place: str

    @property
    def text(self) -> str:
        """The first text as one string."""
        return self.first if isinstance(self.first, str) else " ".join(self.first)

    def __len__(self) -> int:
        """Return the characters of all texts."""
        return len(self.text) + len(self.second or "") + sum(map(len, self.endings))


def record(columns: Iterable[tuple[str, Any]], answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer behind the columns that its item came with, none of which is lost.

    A column that has the name of an answer's key, or of an earlier column, becomes ``input.NAME``, or, if there is such
    a column too, ``input.NAME.2``, ``input.NAME.3``, …
    """
    columns = list(columns)
    taken = {name for name, _ in columns} | answer.keys()
    made: dict[str, Any] = {}
    for name, value in columns:
        if name in answer or name in made:
            numbered = (f"input.{name}.{number}" for number in itertools.count(2))
            name = next(new for new in itertools.chain([f"input.{name}"], numbered) if new not in taken)
            taken.add(name)
        made[name] = value
    return made | dict(answer)


def item_of(row: Mapping[str, Any], columns: Columns, place: str) -> Item:
    """Return what a row asks.

    Raises:
        RequestError: a column is missing, or holds something else than text.
    """
    first = _cell(row, columns.first, place)
    if isinstance(first, list):
        if not columns.words or not all(isinstance(word, str) for word in first):
            raise _no_text(place, columns.first, first)
        first = [str(word) for word in first]
    elif not isinstance(first, str):
        raise _no_text(place, columns.first, first)
    second = None if columns.second is None else _cell(row, columns.second, place)
    if second is not None and not isinstance(second, str):
        raise _no_text(place, columns.second, second)
    endings: list[Any] = []
    for name in columns.endings:
        cell = _cell(row, name, place)
        endings += cell if isinstance(cell, list) else [cell]
    if not all(isinstance(ending, str) for ending in endings):
        raise _no_text(place, " or ".join(columns.endings), endings)
    for text in (*([first] if isinstance(first, str) else first), second or "", *endings):
        check_unicode(text, place)
    if columns.endings and len(endings) < 2:
        raise RequestError(f"{place} has {counted(len(endings), 'ending')}; two or more are needed to choose one.")
    return Item(first, second, tuple(endings), row, place)


def items_of(values: Iterable[Asked], takes: Takes, task: Task | None = None, what: str = "text") -> Iterator[Item]:
    """Yield what a Python caller, or the command line, asks; `what` names one of them in an error, counted from 1.

    Raises:
        RequestError: a value is not what the model `takes`.
    """
    known: dict[tuple[str, ...], Columns] = {}
    for number, value in enumerate(values, 1):
        place = f"{what} {number}"
        row = value if isinstance(value, Mapping) else _row(value, takes, place)
        names = tuple(row)
        if names not in known:
            known[names] = find_columns(row, takes, place, task)
        yield item_of(row, known[names], place)


def items_with(
    texts: Iterable[tuple[str, str]], takes: Takes, pair: str | None, question: str | None, endings: Sequence[str]
) -> Iterator[Item]:
    """Yield (place, text) of the command line, each with the same second text, question or endings."""
    row: dict[str, Any]
    for place, text in texts:
        match takes:
            case "question":
                row, columns = {"question": question, "context": text}, Columns("question", "context")
            case "endings":
                row, columns = {"text": text, "endings": list(endings)}, Columns("text", None, ("endings",))
            case _:
                row = {"text": text} if pair is None else {"text": text, "pair": pair}
                columns = Columns("text", None if pair is None else "pair")
        yield item_of(row, columns, place)


def check_given(
    takes: Takes, pair: str | None, question: str | None, endings: Sequence[str], columns: bool, model: str
) -> None:
    """Refuse what a model does not take, and, unless these are `columns` of a file, what it takes and is not given.

    Raises:
        RequestError: one of these.
    """
    for option, given, fits in (
        ("--pair", pair, takes in ("texts", "pair")),
        ("--question", question, takes == "question"),
        ("--ending", endings or None, takes == "endings"),
    ):
        if given is not None and not fits:
            raise RequestError(f"{option} is not for this model: {model} takes {WANTED[takes]}.")
    lacking = {
        "pair": ("--pair TEXT", pair is None),
        "question": ("--question TEXT", question is None),
        "endings": ("--ending TEXT --ending TEXT", len(endings) < 2),
    }
    option, lacks = lacking.get(takes, ("", False))
    if lacks and not columns:
        raise RequestError(f"{model} takes {WANTED[takes]}. Add {option}")


def _row(value: Any, takes: Takes, place: str) -> dict[str, Any]:
    """Return a text, a pair or words under their names."""
    two = isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(text, str) for text in value)
    if isinstance(value, str) and takes in ("text", "words", "texts"):
        return {"text": value}
    if takes == "words" and isinstance(value, list | tuple):
        return {"words": list(value)}
    if two and takes == "question":
        return dict(zip(("question", "context"), value, strict=True))
    if two and takes in ("texts", "pair"):
        return dict(zip(("text", "pair"), value, strict=True))
    raise RequestError(f"{place} is {_shown(value)}; this model takes {WANTED[takes]}{_WRITTEN.get(takes, '')}.")


WANTED: dict[Takes, str] = {
    "text": "one text",
    "words": "one text, or the list of its words",
    "texts": "a text, or a pair of texts",
    "pair": "a pair of texts",
    "question": "a question about a text",
    "endings": "a text and its endings",
}
"""What `Takes` means, for a sentence."""
_WRITTEN = {
    "pair": ': (text, pair) or {"text": …, "pair": …}',
    "question": ': {"question": …, "context": …}',
    "endings": ': {"text": …, "endings": […, …]}',
}


def _cell(row: Mapping[str, Any], name: str, place: str) -> Any:
    if name not in row:
        raise RequestError(f"{place} has no '{name}', which the others have.")
    return row[name]


def _no_text(place: str, name: str | None, value: Any) -> RequestError:
    return RequestError(f"{place}: '{name}' is {_shown(value)}, which is no text.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
