"""Question answering: the part of a text that answers a question, or, where the task allows it, no answer.

Exact match and F1 follow `evaluate-v1.1.py` and `evaluate-v2.0.py` of https://rajpurkar.github.io/SQuAD-explorer/:
answers are compared in lower case, without ASCII punctuation, articles and superfluous white space.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bigs_cli.core.errors import RequestError, listed
from bigs_cli.core.wording import printable
from bigs_cli.data.encode import Encoded
from bigs_cli.data.windows import Windows, encode_questions
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.items import InputFormat, Item
from bigs_cli.tasks.labels import label_column, text_columns
from bigs_cli.tasks.reading import Table
from bigs_cli.tasks.types.base import (
    Array,
    ExampleScores,
    Lines,
    TaskType,
    foreign_predictions,
    mean_of,
    percent_text,
)

if TYPE_CHECKING:
    import jax
    from tokenizers import Tokenizer

    from bigs_cli.models.heads import Outputs

MAX_ANSWER_LENGTH = 30  # tokens
N_BEST = 20  # answers that are kept for each question
NOWHERE = -1
"""The place of an answer that does not occur in its text."""
MAX_MISPLACED = 0.01
"""Share of training questions that may be left out because their answer does not occur in the text. The published data
sets have none, and a fault in how a data set was made concerns far more than 1%; chosen here."""
_NAMED = 5  # questions that a sentence names
_MASKED = -1e9  # the score of padding: no share in the softmax, and no NaN where a row is nothing but padding
QUESTION = InputFormat(
    wanted="a question about a text",
    keys=("question", "context"),
    options=("question", "text"),
    text_b="required",
    column_hint="Name those of the question and the text it is about: --question COLUMN --text COLUMN",
    key_hint="Put the question under 'question' and the text it is about under 'context'",
    example=': {"question": …, "context": …}',
)


@dataclass(frozen=True)
class QuestionExamples(Examples):
    """Questions about a text, answered by a part of it.

    `answers[i]` are (text, character at which it begins, or `NOWHERE`) of every right answer; none: the text does not
    say.
    """

    ids: list[str]
    questions: list[str]
    contexts: list[str]
    answers: list[list[tuple[str, int]]] | None

    @property
    def labelled(self) -> bool:
        """Whether there are answers."""
        return self.answers is not None

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield id, text (the question), pair (what it is about), and label: the texts of the right answers.

        And `places`: the characters at which these begin, None for one that is not in the text.
        """
        for i, question in enumerate(self.questions):
            record: dict[str, Any] = {"id": self.ids[i], "text": question, "pair": self.contexts[i]}
            if self.answers is not None:
                places = [None if at == NOWHERE else at for _, at in self.answers[i]]
                record |= {"label": [text for text, _ in self.answers[i]], "places": places}
            yield record

    def trainable(self, where: str) -> QuestionExamples:
        """Return the questions without an answer, and those of which one answer has a place.

        Raises:
            RequestError: more than `MAX_MISPLACED` of the questions would be left out.
        """
        answers = self.answers or []
        lost = {row for row, given in enumerate(answers) if given and all(at == NOWHERE for _, at in given)}
        if not lost:
            return self
        names = listed([self.ids[row] for row in sorted(lost)], _NAMED)
        what = (
            f"{where}: {len(lost)} of {len(self)} questions ({names}) have an answer that stands neither at its "
            "answer_start nor at one other place of the text"
        )
        if len(lost) > MAX_MISPLACED * len(self):
            raise RequestError(
                f"{what}. At most {MAX_MISPLACED:.0%} may be left out: correct the file. An answer_start counts "
                "characters, not bytes, from 0."
            )
        kept = self.take([row for row in range(len(self)) if row not in lost])
        return replace(kept, notes=(*kept.notes, f"{what}; they are left out."))


def place_answers(questions: QuestionExamples, where: str) -> QuestionExamples:
    """Return `questions` with every answer at a place where its text occurs, and a note of those that were moved.

    Data sets made with another count of characters (bytes, UTF-16 units) or another version of the text have answers
    whose `answer_start` points at other words, which a model would learn. Such an answer is moved to the only place
    where it occurs; if there is none, or several, its place becomes `NOWHERE`. `where` opens the note.
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


def _place(text: str, at: int, context: str) -> int:
    """Return where an answer occurs: at `at`, or at the only other place. A blank one occurs nowhere."""
    if not text.strip():
        return NOWHERE
    if 0 <= at < len(context) and context.startswith(text, at):
        return at
    first = context.find(text)
    return first if first == context.rfind(text) else NOWHERE


@dataclass(frozen=True)
class Candidates:
    """The best answers to one question.

    `best` are (text, score), the best first: the sum of the scores of its start and its end; `places` are the
    characters from and to which these texts go. `null` is the score of [CLS], the lowest of all windows: how likely
    it is that no window answers.
    """

    best: list[tuple[str, float]]
    places: list[tuple[int, int]]
    null: float


class QuestionAnswering(TaskType):
    """The tokens at which the answer starts and ends, with the mean of both cross-entropies over a window.

    Where the window does not hold the answer, both are [CLS]. The answer is the part of at most 30 tokens, in any
    window, whose start and end score most together; where there may be no answer, it is "" if [CLS] scores higher.
    """

    head = "question-answering"
    by_token = True
    right_name = "exact"
    takes = QUESTION
    headers = ("question", "answer", "probability", "score", "characters")

    def examples_in(self, table: Table) -> QuestionExamples:
        """Return rows as questions; the answers of each are `{"text": […], "answer_start": […]}`."""
        question, context = text_columns(self.task, table)
        assert context is not None
        column = label_column(self.task, table)
        answers = None
        if column:
            answers = [self._answers(*cell) for cell in zip(table.column(column), table.places, strict=True)]
        ids = map(str, table.column("id") if "id" in table.names else table.ids)
        examples = QuestionExamples(list(ids), table.texts(question), table.texts(context), answers)
        return place_answers(examples, table.name)

    def _answers(self, cell: Any, place: str) -> list[tuple[str, int]]:
        """Return the (text, first character) of each answer in a cell."""
        if not isinstance(cell, dict) or not all(isinstance(cell.get(key), list) for key in ("text", "answer_start")):
            raise RequestError(f"{place}: the answers are not texts with their answer_start.")
        texts, starts = cell["text"], cell["answer_start"]
        if len(texts) != len(starts):
            raise RequestError(f"{place}: {len(texts)} answers have {len(starts)} places.")
        if not texts and not self.task.no_answer:
            raise RequestError(f"{place} has no answer, which {self.task.title} does not allow.")
        answers = list(zip(texts, starts, strict=True))
        if not all(isinstance(text, str) and isinstance(start, int) for text, start in answers):
            raise RequestError(f"{place}: an answer is no text, or its answer_start no whole number.")
        return answers

    def encode(self, tokenizer: Tokenizer, examples: QuestionExamples, length: int) -> Windows:
        """Encode questions with windows of their texts, several for one question where its text is long."""
        return encode_questions(tokenizer, examples.questions, examples.contexts, examples.answers, length)

    def count_rows(self, tokenizer: Tokenizer, examples: QuestionExamples, length: int) -> int:
        """Return the number of windows, which only encoding tells."""
        return len(self.encode(tokenizer, examples, length))

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the scores `[B, L, 2]` of start and end."""
        import jax.numpy as jnp

        return jnp.stack([outputs.start_logits, outputs.end_logits], axis=-1)

    def loss(self, scores: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed loss: scores `[B, L, 2]`, labels `[B, 2]`, weights `[B, L]`, 0 for padding.

        Further sums: "weight", the windows, and "accuracy", those whose start and end are both right.
        """
        import jax.numpy as jnp

        from bigs_cli.models.losses import cross_entropy

        logits = jnp.where(weights[..., None] > 0, scores, _MASKED)
        loss, hits = cross_entropy(jnp.swapaxes(logits, 1, 2), labels)
        there = weights.max(-1)
        return (loss.mean(-1) * there).sum(), {"weight": there.sum(), "accuracy": (hits.all(-1) * there).sum()}

    def metrics(self, examples: QuestionExamples, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return F1 and exact match by the official rules."""
        assert examples.answers is not None
        predictions = [self._best(found) for found in find_answers(examples.contexts, inputs, scores)]
        right = [[text for text, _ in answers] for answers in examples.answers]
        return squad_scores(predictions, right, self.task.no_answer)

    def answers(self, examples: QuestionExamples, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield the prediction, `nbest`, the 20 best answers, and `null_score` where there may be none.

        Answers have their score, and the characters at which they start and end; the probabilities are shares among
        these.
        """
        for found in find_answers(examples.contexts, inputs, scores):
            values = np.array([score for _, score in found.best] + [found.null] * self.task.no_answer, np.float64)
            likely = np.exp(values - values.max(initial=-np.inf))
            shares = (likely / likely.sum()).round(6).tolist()
            nbest = [
                {"text": text, "score": round(score, 4), "probability": share, "start": start, "end": end}
                for (text, score), share, (start, end) in zip(found.best, shares, found.places, strict=False)
            ]
            null = {"null_score": round(found.null, 4)} if self.task.no_answer else {}
            yield {"prediction": self._best(found), "nbest": nbest, **null}

    def _best(self, found: Candidates) -> str:
        """Return the answer, "" if there is none."""
        if not found.best or (self.task.no_answer and found.null > found.best[0][1]):
            return ""
        return found.best[0][0]

    def label_text(self, label: list[str]) -> str:
        """Return the right answers."""
        return " / ".join(label) or "no answer"

    def example_scores(self, lines: Lines) -> ExampleScores:
        """Score answers: right are exact matches."""
        try:
            both = [answer_scores(line["prediction"], line["label"], self.task.no_answer) for line in lines]
        except (KeyError, TypeError, AttributeError) as error:
            raise foreign_predictions(self.task, error) from error
        f1, exact = np.array(both).reshape(-1, 2).T
        return ExampleScores(len(lines), {"f1": mean_of(f1), "exact": mean_of(exact)}, exact == 1.0)

    def probability(self, line: Mapping[str, Any]) -> float:
        """Return the probability of an answer, 0 for "no answer"."""
        nbest = line.get("nbest", ())
        return next((best["probability"] for best in nbest if best["text"] == line["prediction"]), 0.0)

    def examples_of(self, items: Sequence[Item]) -> QuestionExamples:
        """Return items as questions."""
        questions, contexts = [item.text for item in items], [item.text_b or "" for item in items]
        return QuestionExamples([""] * len(items), questions, contexts, None)

    def answer_items(self, items: Sequence[Item], inputs: Encoded, scores: Any, top: int) -> Iterator[dict[str, Any]]:
        """Yield `prediction`, its score, probability and characters in the text, and `nbest`: the same of the best.

        Probabilities are shares among the 20 best answers. No answer, "", has no characters.
        """
        for answer in self.answers(self.examples_of(items), inputs, scores):
            best = answer["nbest"]
            if answer["prediction"]:
                chosen = {name: best[0][name] for name in ("score", "probability", "start", "end")}
            else:
                share = round(1 - sum(one["probability"] for one in best), 6) if best else None
                chosen = {"score": answer.get("null_score"), "probability": share, "start": None, "end": None}
            yield {"prediction": answer["prediction"], **chosen, **answer, "nbest": best[:top]}

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield a row for each of the best answers."""
        first = printable(item.text, 60)
        if not answer["prediction"]:
            yield first, "(no answer)", percent_text(answer["probability"]), "", ""
            first = ""
        for one in answer["nbest"]:
            where = f"{one['start']}–{one['end']}"
            yield first, printable(one["text"], 60), percent_text(one["probability"]), f"{one['score']:.2f}", where
            first = ""


def find_answers(contexts: list[str], inputs: Encoded, scores: Array) -> list[Candidates]:
    """Return the best answers to every question, over all its windows; `scores` are `[all tokens, 2]`."""
    windows = cast(Windows, inputs)
    parts: list[list[tuple[float, int, int]]] = [[] for _ in contexts]
    nulls = [np.inf] * len(contexts)
    for row, example in enumerate(windows.examples.tolist()):
        begin, end = int(windows.starts[row]), int(windows.starts[row + 1])
        nulls[example] = min(nulls[example], float(scores[begin].sum()))
        held = slice(begin + int(windows.first_lengths[row]), end - 1)
        parts[example] += _parts(scores[held], windows.places[held])
    result = []
    for context, found, null in zip(contexts, parts, nulls, strict=True):
        best: dict[str, tuple[float, int, int]] = {}
        for part in sorted(found, key=lambda part: -part[0]):
            best.setdefault(context[part[1] : part[2]], part)
        kept = list(best.items())[:N_BEST]
        texts = [(text, score) for text, (score, _, _) in kept]
        result.append(Candidates(texts, [(start, end) for _, (_, start, end) in kept], null))
    return result


def _parts(scores: Array, places: Array) -> list[tuple[float, int, int]]:
    """Return (score, first character, last character + 1) of the best parts of a window: `[T, 2]` each."""
    count = len(scores)
    if not count:
        return []
    widths = min(MAX_ANSWER_LENGTH, count)
    ends = np.concatenate([scores[:, 1], np.full(widths - 1, -np.inf)])
    sums = (scores[:, :1] + np.lib.stride_tricks.sliding_window_view(ends, widths)).ravel()
    best = np.argpartition(-sums, min(N_BEST, len(sums)) - 1)[:N_BEST]
    best = best[np.isfinite(sums[best])]
    first, width = best // widths, best % widths
    return list(zip(sums[best].tolist(), places[first, 0].tolist(), places[first + width, 1].tolist(), strict=True))


_ARTICLE = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_scores(
    predictions: Sequence[str], answers: Sequence[Sequence[str]], no_answer: bool = False
) -> dict[str, float]:
    """Return the means of `f1` and `exact` over questions, as fractions; the best of a question's answers counts.

    `no_answer`: by the rules of version 2, where a question may have no answer, which "" says: answers that are empty
    once normalized do not count, and what is compared with "" is right only if it is empty too.
    """
    both = [answer_scores(prediction, right, no_answer) for prediction, right in zip(predictions, answers, strict=True)]
    f1, exact = (sum(column) / max(len(both), 1) for column in zip((0.0, 0.0), *both, strict=True))
    return {"f1": f1, "exact": exact}


def answer_scores(prediction: str, answers: Sequence[str], no_answer: bool = False) -> tuple[float, float]:
    """Return F1 and exact match of one answer: the best over the right `answers`."""
    mine, theirs = normalize(prediction), [normalize(answer) for answer in answers]
    if no_answer:
        theirs = [answer for answer in theirs if answer] or [""]
    exact = max((float(mine == answer) for answer in theirs), default=0.0)
    return max((_f1(mine, answer, no_answer) for answer in theirs), default=0.0), exact


def normalize(text: str) -> str:
    """Return `text` as answers are compared; the order of the steps is the official one."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def _f1(mine: str, answer: str, no_answer: bool) -> float:
    """Return the F1 of the words of two normalized texts, with their multiplicity."""
    if no_answer and not (mine and answer):
        return float(mine == answer)
    words, right = mine.split(), answer.split()
    both = (Counter(words) & Counter(right)).total()
    return 2 * both / (len(words) + len(right)) if both else 0.0
