"""Answers that are parts of a text: each is put where it stands, or known to stand nowhere.

Data sets made with another count of characters (bytes, UTF-16 units) or another version of the text have answers whose
`answer_start` points at other words, which a model would learn.
"""

from __future__ import annotations

from dataclasses import replace

from bigs_cli.core.errors import RequestError, listed
from bigs_cli.tasks.examples import NOWHERE, Questions

MOST_MISPLACED = 0.01
"""Share of training questions that may be left out because their answer stands nowhere. The published data sets have
none, and a fault in how a data set was made concerns far more than 1%; chosen here."""

_NAMED = 5  # questions that a sentence names


def place_answers(questions: Questions, where: str) -> Questions:
    """Return `questions` with every answer at a place where its text stands, and a note of those that were moved.

    An answer that does not stand at its place is moved to the only place where it does; if there is none, or several,
    its place becomes `NOWHERE`. `where` opens the note.
    """
    if questions.answers is None:
        return questions
    answers: list[list[tuple[str, int]]] = []
    moved: list[str] = []
    for name, context, given in zip(questions.ids, questions.contexts, questions.answers, strict=True):
        answers.append([(text, _place(text, at, context)) for text, at in given])
        if any(0 <= at != before for (_, at), (_, before) in zip(answers[-1], given, strict=True)):
            moved.append(name)
    notes = questions.notes
    if moved:
        notes += (
            f"{where}: {len(moved)} of {len(questions)} questions ({listed(moved, _NAMED)}) have an answer that does "
            "not stand at its answer_start, but at one other place of the text, where it is taken from.",
        )
    return replace(questions, answers=answers, notes=notes)


def answerable(questions: Questions, where: str) -> Questions:
    """Return the questions to train on: those without an answer, and those of which one has a place.

    Raises:
        RequestError: more than `MOST_MISPLACED` of the questions would be left out.
    """
    answers = questions.answers or []
    lost = {row for row, given in enumerate(answers) if given and all(at == NOWHERE for _, at in given)}
    if not lost:
        return questions
    names = listed([questions.ids[row] for row in sorted(lost)], _NAMED)
    what = (
        f"{where}: {len(lost)} of {len(questions)} questions ({names}) have an answer that stands neither at its "
        "answer_start nor at one other place of the text"
    )
    if len(lost) > MOST_MISPLACED * len(questions):
        raise RequestError(
            f"{what}. At most {MOST_MISPLACED:.0%} may be left out: correct the file. An answer_start counts "
            "characters, not bytes, from 0."
        )
    kept = questions.take([row for row in range(len(questions)) if row not in lost])
    return replace(kept, notes=(*kept.notes, f"{what}; they are left out."))


def _place(text: str, at: int, context: str) -> int:
    """Return where an answer stands: at `at`, or at the only other place. One without a word stands nowhere."""
    if not text.strip():
        return NOWHERE
    if 0 <= at < len(context) and context.startswith(text, at):
        return at
    first = context.find(text)
    return first if first == context.rfind(text) else NOWHERE
