"""Question answering: the span of a text that answers a question, or no answer if the task allows it.

Exact match and F1 follow `evaluate-v1.1.py` and `evaluate-v2.0.py` of https://rajpurkar.github.io/SQuAD-explorer/:
answers are compared in lower case, without ASCII punctuation, articles and extra white space.
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
from bigs_cli.data.encode import Encoded, add_special_tokens
from bigs_cli.recipe.groups import Loss
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.items import InputFormat, Item
from bigs_cli.tasks.labels import label_column, text_columns
from bigs_cli.tasks.reading import Table
from bigs_cli.tasks.types.base import (
    AnsweringType,
    Array,
    ExampleScores,
    Lines,
    foreign_predictions_error,
    mean_of,
    percent_text,
)

if TYPE_CHECKING:
    import jax
    from tokenizers import Tokenizer

    from bigs_cli.models.heads import Outputs

DOC_STRIDE = 128
"""Tokens that a window shares with the next (`doc_stride` in common scripts); at most half of a short window."""
LONGEST_QUESTION = 64  # tokens
SHORTEST_ROW = 8  # tokens
MAX_ANSWER_LENGTH = 30  # tokens
N_BEST = 20  # number of answers kept per question
NOWHERE = -1
"""The start of an answer that does not occur in its text."""
MAX_MISPLACED = 0.01
"""The maximum fraction of training questions to leave out because their answer does not occur in the text.

Published data sets have none, and a bug in the creation of a data set affects far more than 1%. Chosen by this
project."""
_LISTED = 5  # the maximum number of questions that a message lists
_MASKED = -1e9  # the score of padding: its probability is zero, and rows with only padding have no NaN
QUESTION = InputFormat(
    wanted="a question about a text",
    keys=("question", "context"),
    options=("question", "text"),
    text_b="required",
    column_hint="Name the columns of the question and of its text: --question COLUMN --text COLUMN",
    key_hint="Put the question under 'question' and its text under 'context'",
    example=': {"question": …, "context": …}',
)


@dataclass(frozen=True)
class QuestionExamples(Examples):
    """Questions about texts, with spans of the texts as answers.

    `answers[i]` lists the correct answers as (text, index of the first character, or `NOWHERE`). It is empty if the
    question cannot be answered.
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
        """Yield id, text (the question), pair (its text), label and places of each example.

        The label lists the correct answers; `places` are the indices of their first characters, None for an answer that
        is not in the text.
        """
        for i, question in enumerate(self.questions):
            record: dict[str, Any] = {"id": self.ids[i], "text": question, "pair": self.contexts[i]}
            if self.answers is not None:
                places = [None if at == NOWHERE else at for _, at in self.answers[i]]
                record |= {"label": [text for text, _ in self.answers[i]], "places": places}
            yield record

    def trainable(self, where: str) -> QuestionExamples:
        """Return the questions that have no answer or at least one answer in the text.

        Raises:
            RequestError: more than `MAX_MISPLACED` of the questions would be left out.
        """
        all_answers = self.answers or []
        lost = {row for row, answers in enumerate(all_answers) if answers and all(at == NOWHERE for _, at in answers)}
        if not lost:
            return self
        names = listed([self.ids[row] for row in sorted(lost)], _LISTED)
        what = (
            f"{where}: {len(lost)} of {len(self)} questions ({names}) have an answer that is neither at its "
            "answer_start nor at exactly one other position of the text"
        )
        if len(lost) > MAX_MISPLACED * len(self):
            raise RequestError(
                f"{what}. At most {MAX_MISPLACED:.0%} may be left out: correct the file. An answer_start counts "
                "characters, not bytes, from 0."
            )
        kept = self.take([row for row in range(len(self)) if row not in lost])
        return replace(kept, notes=(*kept.notes, f"{what}; they are left out."))


def place_answers(questions: QuestionExamples, where: str) -> QuestionExamples:
    """Return `questions` with every answer at a position where it occurs, and a note on answers that were moved.

    In data sets that count bytes or UTF-16 units, or that use another version of the text, `answer_start` can point at
    other words, which a model would learn. Such an answer is moved to its only occurrence; if it has none or several,
    its start becomes `NOWHERE`. The note starts with `where`.
    """
    if questions.answers is None:
        return questions
    answers: list[list[tuple[str, int]]] = []
    moved: list[str] = []
    for name, context, original in zip(questions.ids, questions.contexts, questions.answers, strict=True):
        answers.append([(text, _answer_start(text, at, context)) for text, at in original])
        if any(0 <= at != before for (_, at), (_, before) in zip(answers[-1], original, strict=True)):
            moved.append(name)
    notes = questions.notes
    if moved:
        notes += (
            f"{where}: {len(moved)} of {len(questions)} questions ({listed(moved, _LISTED)}) have an answer that is "
            "not at its answer_start but at one other position of the text, which is used instead.",
        )
    return replace(questions, answers=answers, notes=notes)


def _answer_start(text: str, at: int, context: str) -> int:
    """Return the start of an answer: `at`, its only other occurrence, or `NOWHERE`, also for a blank answer."""
    if not text.strip():
        return NOWHERE
    if 0 <= at < len(context) and context.startswith(text, at):
        return at
    first = context.find(text)
    return first if first == context.rfind(text) else NOWHERE


@dataclass(frozen=True, kw_only=True)
class Windows(Encoded):
    """One window per row: [CLS] question [SEP] window [SEP].

    `examples` `[n]` is the index of each window's question, ascending. `places` `[all tokens, 2]` are the start and end
    of each token in characters of the text, −1 for tokens outside the text. Labels `[n, 2]` are the positions in the
    row of the first and the last token of the answer; 0, the position of [CLS], if the window does not contain the
    answer.
    """

    examples: Array
    places: Array

    def batch(self, rows: Array, size: int) -> dict[str, Array]:
        """Return the batch of `Encoded.batch` with weights `[size, L]`: 1 for the tokens of a window, 0 for padding."""
        arrays = super().batch(rows, size)
        return {**arrays, "weights": arrays["attention_mask"].astype(np.float32)}


@dataclass(frozen=True)
class Candidates:
    """The best answers to one question.

    `best` are (text, score), the best first; a score is the sum of the scores of start and end. `spans` are the
    character spans of these texts. `null` is the score of no answer: that of [CLS], the lowest of all windows.
    """

    best: list[tuple[str, float]]
    spans: list[tuple[int, int]]
    null: float


class QuestionAnswering(AnsweringType):
    """Scores every token as start and as end of the answer; the loss is the mean of both cross-entropies of a window.

    Both labels are [CLS] if the window does not contain the answer. The prediction is the span of at most 30 tokens in
    any window with the highest sum of start and end scores. If the task allows no answer, it is "" if [CLS] scores
    higher.
    """

    head = "question-answering"
    by_token = True
    right_name = "exact"
    answer_keys = ("prediction", "nbest", "null_score")
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
            raise RequestError(f"{place}: the answers must have the keys text and answer_start.")
        texts, starts = cell["text"], cell["answer_start"]
        if len(texts) != len(starts):
            raise RequestError(f"{place}: there are {len(texts)} answers but {len(starts)} values of answer_start.")
        if not texts and not self.task.no_answer:
            raise RequestError(f"{place} has no answer, which {self.task.title} does not allow.")
        answers = list(zip(texts, starts, strict=True))
        if not all(isinstance(text, str) and isinstance(start, int) for text, start in answers):
            raise RequestError(f"{place}: an answer is not text, or its answer_start is not an integer.")
        return answers

    def encode(self, tokenizer: Tokenizer, examples: QuestionExamples, length: int) -> Windows:
        """Encode questions with windows of their texts; a long text has several windows."""
        return encode_questions(tokenizer, examples.questions, examples.contexts, examples.answers, length)

    def count_rows(self, tokenizer: Tokenizer, examples: QuestionExamples, length: int) -> int:
        """Return the number of windows, which requires encoding."""
        return len(self.encode(tokenizer, examples, length))

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the scores `[B, L, 2]` of start and end."""
        import jax.numpy as jnp

        return jnp.stack([outputs.start_logits, outputs.end_logits], axis=-1)

    def loss(
        self, scores: jax.Array, labels: jax.Array, weights: jax.Array, settings: Loss
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed loss: scores `[B, L, 2]`, labels `[B, 2]`, weights `[B, L]`, 0 for padding.

        Further sums are "weight", the number of windows, and "accuracy", those with correct start and end.
        """
        import jax.numpy as jnp

        from bigs_cli.models.losses import cross_entropy

        logits = jnp.where(weights[..., None] > 0, scores, _MASKED)
        loss, hits = cross_entropy(jnp.swapaxes(logits, 1, 2), labels)
        is_real = weights.max(-1)
        return (loss.mean(-1) * is_real).sum(), {"weight": is_real.sum(), "accuracy": (hits.all(-1) * is_real).sum()}

    def metrics(self, examples: QuestionExamples, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return F1 and exact match according to the official rules."""
        assert examples.answers is not None
        predictions = [self._best(candidates) for candidates in find_answers(examples.contexts, inputs, scores)]
        right = [[text for text, _ in answers] for answers in examples.answers]
        return squad_scores(predictions, right, self.task.no_answer)

    def answers(self, examples: QuestionExamples, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield `prediction`, `nbest`, the 20 best answers, and, if the task allows no answer, `null_score`.

        Answers have a score, a character span, and a probability, which is relative to these answers.
        """
        for candidates in find_answers(examples.contexts, inputs, scores):
            values = np.array(
                [score for _, score in candidates.best] + [candidates.null] * self.task.no_answer, np.float64
            )
            exponentials = np.exp(values - values.max(initial=-np.inf))
            probabilities = (exponentials / exponentials.sum()).round(6).tolist()
            nbest = [
                {"text": text, "score": round(score, 4), "probability": probability, "start": start, "end": end}
                for (text, score), probability, (start, end) in zip(
                    candidates.best, probabilities, candidates.spans, strict=False
                )
            ]
            null = {"null_score": round(candidates.null, 4)} if self.task.no_answer else {}
            yield {"prediction": self._best(candidates), "nbest": nbest, **null}

    def _best(self, candidates: Candidates) -> str:
        """Return the best answer, or "" for no answer."""
        if not candidates.best or (self.task.no_answer and candidates.null > candidates.best[0][1]):
            return ""
        return candidates.best[0][0]

    def label_text(self, label: list[str]) -> str:
        """Return the correct answers as one string."""
        return " / ".join(label) or "no answer"

    def example_scores(self, lines: Lines) -> ExampleScores:
        """Score each answer; an exact match is correct."""
        try:
            rows = [answer_scores(line["prediction"], line["label"], self.task.no_answer) for line in lines]
        except (KeyError, TypeError, AttributeError) as error:
            raise foreign_predictions_error(self.task, error) from error
        f1, exact = np.array(rows).reshape(-1, 2).T
        return ExampleScores(len(lines), {"f1": mean_of(f1), "exact": mean_of(exact)}, exact == 1.0)

    def probability(self, line: Mapping[str, Any]) -> float:
        """Return the probability of the answer; 0 for no answer."""
        nbest = line.get("nbest", ())
        return next((best["probability"] for best in nbest if best["text"] == line["prediction"]), 0.0)

    def examples_of(self, items: Sequence[Item]) -> QuestionExamples:
        """Convert items to questions."""
        questions, contexts = [item.text for item in items], [item.text_b or "" for item in items]
        return QuestionExamples([""] * len(items), questions, contexts, None)

    def answer_items(self, items: Sequence[Item], inputs: Encoded, scores: Any, top: int) -> Iterator[dict[str, Any]]:
        """Yield `prediction` with its score, probability and character span, and the same for the best in `nbest`.

        Probabilities are relative to the 20 best answers. No answer, "", has no span.
        """
        for answer in self.answers(self.examples_of(items), inputs, scores):
            best = answer["nbest"]
            if answer["prediction"]:
                chosen = {name: best[0][name] for name in ("score", "probability", "start", "end")}
            else:
                rest = round(1 - sum(one["probability"] for one in best), 6) if best else None
                chosen = {"score": answer.get("null_score"), "probability": rest, "start": None, "end": None}
            yield {"prediction": answer["prediction"], **chosen, **answer, "nbest": best[:top]}

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield one row per answer, the best first."""
        first = printable(item.text, 60)
        if not answer["prediction"]:
            yield first, "(no answer)", percent_text(answer["probability"]), "", ""
            first = ""
        for one in answer["nbest"]:
            span = f"{one['start']}–{one['end']}"
            yield first, printable(one["text"], 60), percent_text(one["probability"]), f"{one['score']:.2f}", span
            first = ""


def encode_questions(
    tokenizer: Tokenizer,
    questions: Sequence[str],
    contexts: Sequence[str],
    answers: Sequence[Sequence[tuple[str, int]]] | None,
    length: int,
) -> Windows:
    """Encode questions, truncated to 64 tokens or half of `length`, each with every window of its context.

    Labels are those of the first answer (text, index of its first character) whose index is not −1; without such an
    answer, they are the position of [CLS].

    Raises:
        RequestError: `length` is too short.
    """
    if length < SHORTEST_ROW:
        raise RequestError(
            f"Length {length} is too short for questions about a text. Use at least {SHORTEST_ROW} tokens."
        )
    own = add_special_tokens(tokenizer)
    cls, sep = own.encode("").ids
    distinct = list(dict.fromkeys(contexts))
    read = own.encode_batch(distinct, add_special_tokens=False)
    texts = {
        text: (np.array(one.ids, np.int32), np.array(one.offsets, np.int32).reshape(-1, 2))
        for text, one in zip(distinct, read, strict=True)
    }
    ids: list[Array] = []
    places: list[Array] = []
    examples: list[int] = []
    firsts: list[int] = []
    labels: list[tuple[int, int]] = []
    longest, cut = min(LONGEST_QUESTION, (length - 3) // 2), 0
    for row, question in enumerate(own.encode_batch(list(questions), add_special_tokens=False)):
        cut += len(question.ids) > longest
        head = np.array([cls, *question.ids[:longest], sep], np.int32)
        tokens, spans = texts[contexts[row]]
        learned = next((answer for answer in answers[row] if answer[1] >= 0), None) if answers else None
        first, last = _tokens_of(learned, spans) if learned else (-1, -1)
        room = length - len(head) - 1
        for start in window_starts(len(tokens), room):
            end = min(start + room, len(tokens))
            ids.append(np.concatenate([head, tokens[start:end], head[-1:]]))
            outside = np.full((len(head), 2), -1, np.int32)
            places.append(np.concatenate([outside, spans[start:end], outside[:1]]))
            examples.append(row)
            firsts.append(len(head))
            held = start <= first <= last < end
            labels.append((len(head) + first - start, len(head) + last - start) if held else (0, 0))
    starts = np.concatenate([[0], np.cumsum([len(window) for window in ids])]).astype(np.int64)
    return Windows(
        np.concatenate(ids),
        starts,
        np.array(firsts),
        length,
        None if answers is None else np.array(labels, np.int32),
        cut=cut,
        examples=np.array(examples),
        places=np.concatenate(places),
    )


def window_starts(tokens: int, room: int) -> range:
    """Return the starts of windows of `room` tokens that cover a text of `tokens`.

    Consecutive windows share `DOC_STRIDE` tokens, or half of `room` if that is less.
    """
    step = room - min(DOC_STRIDE, room // 2)
    return range(0, max(tokens - room, 0) + step, step)


def _tokens_of(answer: tuple[str, int], spans: Array) -> tuple[int, int]:
    """Return the first and the last token (`spans` `[n, 2]`, in characters) that overlap the answer."""
    text, at = answer
    first = int(np.searchsorted(spans[:, 1], at, side="right"))
    last = int(np.searchsorted(spans[:, 0], at + len(text), side="left")) - 1
    return (first, last) if first <= last else (-1, -1)


def find_answers(contexts: list[str], inputs: Encoded, scores: Array) -> list[Candidates]:
    """Return the best answers to every question, over all its windows; `scores` are `[all tokens, 2]`."""
    windows = cast(Windows, inputs)
    spans: list[list[tuple[float, int, int]]] = [[] for _ in contexts]
    nulls = [np.inf] * len(contexts)
    for row, example in enumerate(windows.examples.tolist()):
        begin, end = int(windows.starts[row]), int(windows.starts[row + 1])
        nulls[example] = min(nulls[example], float(scores[begin].sum()))
        text = slice(begin + int(windows.text_a_lengths[row]), end - 1)
        spans[example] += _best_spans(scores[text], windows.places[text])
    result = []
    for context, found, null in zip(contexts, spans, nulls, strict=True):
        best: dict[str, tuple[float, int, int]] = {}
        for span in sorted(found, key=lambda span: -span[0]):
            best.setdefault(context[span[1] : span[2]], span)
        kept = list(best.items())[:N_BEST]
        texts = [(text, score) for text, (score, _, _) in kept]
        result.append(Candidates(texts, [(start, end) for _, (_, start, end) in kept], null))
    return result


def _best_spans(scores: Array, places: Array) -> list[tuple[float, int, int]]:
    """Return (score, first character, last character + 1) of the best spans of a window; both arrays are `[T, 2]`."""
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

    `no_answer` selects the rules of version 2, in which a question may have no answer, written "". Answers that are
    empty after normalization do not count, and a prediction compared with "" is correct only if it is empty too.
    """
    rows = [answer_scores(prediction, right, no_answer) for prediction, right in zip(predictions, answers, strict=True)]
    f1, exact = (sum(column) / max(len(rows), 1) for column in zip((0.0, 0.0), *rows, strict=True))
    return {"f1": f1, "exact": exact}


def answer_scores(prediction: str, answers: Sequence[str], no_answer: bool = False) -> tuple[float, float]:
    """Return F1 and exact match of a prediction: the best over the correct `answers`."""
    prediction, normalized = normalize(prediction), [normalize(answer) for answer in answers]
    if no_answer:
        normalized = [answer for answer in normalized if answer] or [""]
    exact = max((float(prediction == answer) for answer in normalized), default=0.0)
    return max((_f1(prediction, answer, no_answer) for answer in normalized), default=0.0), exact


def normalize(text: str) -> str:
    """Normalize an answer for comparison, in the official order of steps."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def _f1(prediction: str, answer: str, no_answer: bool) -> float:
    """Return the F1 score of the words of two normalized texts, counted with multiplicity."""
    if no_answer and not (prediction and answer):
        return float(prediction == answer)
    predicted, correct = prediction.split(), answer.split()
    common = (Counter(predicted) & Counter(correct)).total()
    return 2 * common / (len(predicted) + len(correct)) if common else 0.0
