"""Which columns of a table, or keys of a dict, hold what a model reads: those named, else those that are obvious."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bigs_cli.core.errors import RequestError, did_you_mean
from bigs_cli.tasks import TASKS
from bigs_cli.tasks.task import Task

ENDINGS = ("endings", "choices")
"""Names of a column that holds the list of all endings."""


@dataclass(frozen=True)
class Columns:
    """The columns of the first and second text, and of the endings; `words`: the first may be a list of words."""

    first: str
    second: str | None = None
    endings: tuple[str, ...] = ()
    words: bool = False


@dataclass(frozen=True)
class Named:
    """The columns that a user names: of the text, the second text, the question, the endings."""

    text: str | None = None
    pair: str | None = None
    question: str | None = None
    endings: tuple[str, ...] = ()


def find_columns(
    row: Mapping[str, Any], takes: str, where: str, task: Task | None = None, named: Named | None = None
) -> Columns:
    """Return the columns of `row` with what a model `takes`.

    In this order: those `named` (None: a Python caller gives rows, and names none); those of `task`, which the model
    was trained for; text, pair, question, context, endings; those of any task bigs knows; the only column of text.

    Raises:
        RequestError: a named column is not there, or several could be meant.
    """
    hints = _KEYS if named is None else _HINTS
    named = named or Named()
    for name in (named.text, named.pair, named.question, *named.endings):
        if name is not None and name not in row:
            raise RequestError(f"{where} has no column '{name}'.{did_you_mean(name, row)} Its columns: {_listed(row)}.")
    endings: tuple[str, ...] = ()
    if takes == "endings":
        endings = named.endings or _first_in(row, [*([task.endings] if task else []), *_ENDING_COLUMNS]) or ()
        if not endings:
            raise RequestError(f"{where}: no endings; its columns are {_listed(row)}. {hints['all']}.")
    words = takes == "words"
    asked, second = (named.question, named.text) if takes == "question" else (named.text, named.pair)
    if asked and (second or takes not in ("pair", "question")):
        return Columns(asked, second, endings, words)
    for first, other in _candidates(takes, task, bool(second)):
        pair = asked or first, second or other
        if pair[0] != pair[1] and {*pair} - {None} <= row.keys():
            return Columns(*pair, endings, words)
    texts = [name for name, value in row.items() if isinstance(value, str) and name not in (*endings, second)]
    if takes not in ("pair", "question") and len(texts) == 1:
        return Columns(texts[0], second, endings, words)
    raise RequestError(f"{where}: its columns are {_listed(row)}. {hints[takes]}.")


_HINTS = {
    "text": "Name that of the text: --text COLUMN",
    "words": "Name that of the text or its words: --text COLUMN",
    "texts": "Name that of the text, --text COLUMN, and for pairs that of the second, --pair COLUMN",
    "pair": "Name those of both texts of a pair: --text COLUMN --pair COLUMN",
    "question": "Name those of the question and the text it is about: --question COLUMN --text COLUMN",
    "endings": "Name that of the text that the endings follow: --text COLUMN",
    "all": "Name them: --ending COLUMN --ending COLUMN, or one column with lists of them",
}
_KEYS = {
    "text": "Put the text under 'text'",
    "words": "Put the text under 'text', or its words under 'words'",
    "texts": "Put the text under 'text', and the second of a pair under 'pair'",
    "pair": "Put the texts under 'text' and 'pair'",
    "question": "Put the question under 'question' and the text it is about under 'context'",
    "endings": "Put the text that the endings follow under 'text'",
    "all": "Put them under 'endings', as a list",
}


def _task_columns(task: Task) -> list[tuple[str, str | None]]:
    pairs: list[tuple[str, str | None]] = [(task.first, task.second)] if task.first else []
    return pairs + ([(task.hub.first, task.hub.second)] if task.hub else [])


_FORMS = {"text": "texts", "words": "tagged", "texts": "texts", "pair": "texts", "question": "questions"}
_OWN: dict[str, list[tuple[str, str | None]]] = {
    "words": [("words", None), ("text", None)],
    "question": [("question", "context")],
}
_ENDING_COLUMNS: list[tuple[str, ...]] = [
    *((name,) for name in ENDINGS),
    *dict.fromkeys(task.endings for task in TASKS.values() if task.endings),
]


def _candidates(takes: str, task: Task | None, any_first: bool) -> list[tuple[str, str | None]]:
    """Return pairs of columns to look for, the likeliest first; a pair before its parts.

    `any_first`: the second is known, so that the first of every pair is one to look for.
    """
    form = _FORMS.get(takes, "choices")
    own = _OWN.get(takes, [("text", "pair"), ("text", None)])
    others = [pair for known in TASKS.values() if known.form == form for pair in _task_columns(known)]
    # A pair of columns is told by both names; a single one may be half of a pair.
    others.sort(key=lambda pair: pair[1] is None)
    found = [*(_task_columns(task) if task else []), *own, *others]
    if any_first or takes == "endings":
        return [(first, None) for first, _ in found]
    if takes in ("pair", "question"):
        return [pair for pair in found if pair[1] is not None]
    return found if takes == "texts" else [pair for pair in found if pair[1] is None]


def _first_in(row: Mapping[str, Any], candidates: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    return next((names for names in candidates if names and set(names) <= row.keys()), None)


def _listed(row: Mapping[str, Any]) -> str:
    return ", ".join(row) or "none"
