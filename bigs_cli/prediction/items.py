"""Convert inputs (texts, pairs, dicts, rows of a table) to `Item`s in the format that a model takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bigs_cli.core.errors import RequestError, check_unicode, did_you_mean
from bigs_cli.core.wording import counted
from bigs_cli.tasks import TASKS
from bigs_cli.tasks.items import InputFormat, Item
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import type_of
from bigs_cli.tasks.types.base import AnsweringType

Input = str | tuple[str, str] | list[str] | Mapping[str, Any]
"""An input of the Python API: a text, a pair, the words of a sentence, or a dict with these by name."""


@dataclass(frozen=True)
class Columns:
    """The columns of both texts and of the endings; if `words`, the first text may be a list of words."""

    text_a: str
    text_b: str | None = None
    endings: tuple[str, ...] = ()
    words: bool = False


@dataclass(frozen=True)
class InputOptions:
    """The options of `bigs predict` for inputs: column names of a file, or, without a file, texts."""

    text: str | None = None
    pair: str | None = None
    question: str | None = None
    endings: tuple[str, ...] = ()

    def of(self, option: str | None) -> str | None:
        """Return the value of the option with this name; None if there is no name."""
        return None if option is None else getattr(self, option)


def find_columns(
    row: Mapping[str, Any],
    takes: InputFormat,
    where: str,
    task: Task | None = None,
    options: InputOptions | None = None,
) -> Columns:
    """Return the columns of `row` with the inputs that a model `takes`.

    The first columns that exist are used: those named by `options` (None in the Python API); those of `task`, for which
    the model was trained; text, pair, question, context, endings; those of any known task; the only column with text.

    Raises:
        RequestError: a named column does not exist, or the columns are ambiguous.
    """
    by_key = options is None
    options = options or InputOptions()
    for name in (options.text, options.pair, options.question, *options.endings):
        if name is not None and name not in row:
            raise RequestError(f"{where} has no column '{name}'.{did_you_mean(name, row)} Its columns: {_listed(row)}.")
    endings = options.endings
    if takes.endings and not endings:
        known = [*([task.endings] if task else []), *_ENDING_COLUMNS]
        endings = next((names for names in known if names and set(names) <= row.keys()), ())
        if not endings:
            hint = "Put them under 'endings', as a list" if by_key else _ENDINGS_HINT
            raise RequestError(f"{where}: no endings; its columns are {_listed(row)}. {hint}.")
    text_a, text_b = map(options.of, takes.options)
    if text_a and (text_b or takes.text_b != "required"):
        return Columns(text_a, text_b, endings, takes.words)
    for column_a, column_b in _candidates(takes, task, bool(text_b)):
        pair = text_a or column_a, text_b or column_b
        if pair[0] != pair[1] and {*pair} - {None} <= row.keys():
            return Columns(*pair, endings, takes.words)
    texts = [name for name, value in row.items() if isinstance(value, str) and name not in (*endings, text_b)]
    if takes.text_b != "required" and len(texts) == 1:
        return Columns(texts[0], text_b, endings, takes.words)
    hint = takes.key_hint if by_key else takes.column_hint
    raise RequestError(f"{where}: its columns are {_listed(row)}. {hint}.")


_ENDINGS_HINT = "Name them: --ending COLUMN --ending COLUMN, or one column with lists of them"
_ENDING_COLUMNS: list[tuple[str, ...]] = [
    *(("endings",), ("choices",)),  # a column with the list of all endings
    *dict.fromkeys(task.endings for task in TASKS.values() if task.endings),
]


def _candidates(takes: InputFormat, task: Task | None, any_first: bool) -> list[tuple[str, str | None]]:
    """Return pairs of columns to look for, in order of preference; pairs come before single columns.

    With `any_first`, the second column is already known, so only the first column of each pair is returned.
    """
    types = [kind for kind in map(type_of, TASKS.values()) if isinstance(kind, AnsweringType)]
    others = [pair for kind in types if takes.resembles(kind.takes) for pair in _task_columns(kind.task)]
    # Single columns come last, because a single column may be half of a pair.
    others.sort(key=lambda pair: pair[1] is None)
    candidates = [*(_task_columns(task) if task else []), *takes.columns, *others]
    if any_first or takes.endings:
        return [(first, None) for first, _ in candidates]
    if takes.text_b == "required":
        return [pair for pair in candidates if pair[1] is not None]
    return candidates if takes.text_b == "optional" else [pair for pair in candidates if pair[1] is None]


def _task_columns(task: Task) -> list[tuple[str, str | None]]:
    pairs: list[tuple[str, str | None]] = [(task.text_a, task.text_b)] if task.text_a else []
    return pairs + ([(task.hub.text_a, task.hub.text_b)] if task.hub else [])


def item_of(row: Mapping[str, Any], columns: Columns, place: str) -> Item:
    """Return the item in a row.

    Raises:
        RequestError: a column is missing, or a value is not text.
    """
    text_a = _cell(row, columns.text_a, place)
    words = text_a if isinstance(text_a, list) else [text_a]
    if not all(isinstance(word, str) for word in words) or (isinstance(text_a, list) and not columns.words):
        raise _not_text(place, columns.text_a, text_a)
    text_b = None if columns.text_b is None else _cell(row, columns.text_b, place)
    if text_b is not None and not isinstance(text_b, str):
        raise _not_text(place, columns.text_b, text_b)
    endings: list[Any] = []
    for name in columns.endings:
        cell = _cell(row, name, place)
        endings += cell if isinstance(cell, list) else [cell]
    if not all(isinstance(ending, str) for ending in endings):
        raise _not_text(place, " or ".join(columns.endings), endings)
    for text in (*words, text_b or "", *endings):
        check_unicode(text, place)
    if columns.endings and len(endings) < 2:
        raise RequestError(f"{place} has {counted(len(endings), 'ending')}; two or more are needed to choose one.")
    return Item(text_a, text_b, tuple(endings), row, place)


def items_of(values: Iterable[Input], takes: InputFormat, task: Task | None = None) -> Iterator[Item]:
    """Yield the items of the Python API; error messages refer to an item by its number, from 1.

    Raises:
        RequestError: a value is not what the model `takes`.
    """
    known: dict[tuple[str, ...], Columns] = {}
    for number, value in enumerate(values, 1):
        place = f"text {number}"
        row = value if isinstance(value, Mapping) else _row(value, takes, place)
        names = tuple(row)
        if names not in known:
            known[names] = find_columns(row, takes, place, task)
        yield item_of(row, known[names], place)


def items_with(texts: Iterable[tuple[str, str]], takes: InputFormat, options: InputOptions) -> Iterator[Item]:
    """Yield one item per (place, text), with the second text, question or endings of the options."""
    key_a, key_b = takes.keys
    for place, text in texts:
        question = takes.options[0] == "question"
        row: dict[str, Any] = {key_a: options.question if question else text}
        text_b = text if question else options.pair
        if key_b is not None and text_b is not None:
            row[key_b] = text_b
        if takes.endings:
            row["endings"] = list(options.endings)
        columns = Columns(key_a, key_b if key_b in row else None, ("endings",) if takes.endings else ())
        yield item_of(row, columns, place)


def check_options(takes: InputFormat, options: InputOptions, from_file: bool, model: str) -> None:
    """Check that a model takes all given options and, unless items are `from_file`, that none is missing.

    Raises:
        RequestError: an option is not for this model, or is missing.
    """
    needed = takes.options[0] if takes.options[0] != "text" else takes.options[1]
    for option, value, supported in (
        ("--pair", options.pair, "pair" in takes.options),
        ("--question", options.question, "question" in takes.options),
        ("--ending", options.endings or None, takes.endings),
    ):
        if value is not None and not supported:
            raise RequestError(f"{option} is not for this model: {model} takes {takes.wanted}.")
    if from_file:
        return
    if takes.text_b == "required" and options.of(needed) is None:
        raise RequestError(f"{model} takes {takes.wanted}. Add --{needed} TEXT")
    if takes.endings and len(options.endings) < 2:
        raise RequestError(f"{model} takes {takes.wanted}. Add --ending TEXT --ending TEXT")


def record(columns: Iterable[tuple[str, Any]], answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with the input columns of an item, followed by its answer.

    A column with the name of a key of the answer, or of an earlier column, is renamed to ``input.NAME``, or to
    ``input.NAME.2``, ``input.NAME.3``, … if that exists too.
    """
    columns = list(columns)
    taken = {name for name, _ in columns} | answer.keys()
    result: dict[str, Any] = {}
    for name, value in columns:
        if name in answer or name in result:
            numbered = (f"input.{name}.{number}" for number in itertools.count(2))
            name = next(new for new in itertools.chain([f"input.{name}"], numbered) if new not in taken)
            taken.add(name)
        result[name] = value
    return result | dict(answer)


def _row(value: Any, takes: InputFormat, place: str) -> dict[str, Any]:
    """Return a dict with a text, a pair or words by name."""
    two = isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(text, str) for text in value)
    if isinstance(value, str) and takes.text_b != "required" and not takes.endings:
        return {takes.keys[0]: value}
    if takes.words and isinstance(value, list | tuple):
        return {"words": list(value)}
    if two and takes.keys[1] is not None:
        return {str(key): text for key, text in zip(takes.keys, value, strict=True)}
    raise RequestError(f"{place} is {_quoted(value)}; this model takes {takes.wanted}{takes.example}.")


def _cell(row: Mapping[str, Any], name: str, place: str) -> Any:
    if name not in row:
        raise RequestError(f"{place} has no '{name}', unlike the first item.")
    return row[name]


def _not_text(place: str, name: str | None, value: Any) -> RequestError:
    return RequestError(f"{place}: '{name}' is {_quoted(value)}, which is not text.")


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _listed(row: Mapping[str, Any]) -> str:
    return ", ".join(row) or "none"
