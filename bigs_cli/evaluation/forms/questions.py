"""Questions that a part of a text answers, or, where the task allows it, nothing in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.data.encode import Encoded
from bigs_cli.data.windows import Windows, encode_questions
from bigs_cli.evaluation.squad import squad_scores
from bigs_cli.models.config import Head
from bigs_cli.models.heads import Outputs
from bigs_cli.models.losses import cross_entropy
from bigs_cli.tasks.examples import Questions
from bigs_cli.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]
LONGEST_ANSWER = 30  # tokens
BEST = 20  # answers that are kept of each question
_NEVER = -1e9  # the score of padding: no share in the softmax, and no NaN where a row is nothing but padding


@dataclass(frozen=True)
class Found:
    """What a model answers to one question.

    `best` are (text, score), the best first: the sum of the scores of its start and its end; `places` are the
    characters from and to which these texts go. `null` is the score of [CLS], the lowest of all windows: how likely no
    window answers.
    """

    best: list[tuple[str, float]]
    places: list[tuple[int, int]]
    null: float


class QuestionsForm:
    """A `Form`: the tokens where the answer starts and ends, with the mean of both cross-entropies over a window.

    Where the window does not hold the answer, both are [CLS]. The answer is the part of at most 30 tokens, in any
    window, whose start and end score most together; where a text may not answer, "" if [CLS] scores more than that.
    """

    head: Head = "question-answering"
    outputs = 2
    by_token = True

    def __init__(self, task: Task) -> None:
        self.no_answer = task.no_answer

    def encode(self, tokenizer: Tokenizer, examples: Questions, length: int) -> Windows:
        """Encode questions with windows of their texts, several for one question where its text is long."""
        return encode_questions(tokenizer, examples.questions, examples.contexts, examples.answers, length)

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the scores `[B, L, 2]` of start and end."""
        return jnp.stack([outputs.start_logits, outputs.end_logits], axis=-1)

    def loss(self, scores: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed loss: scores `[B, L, 2]`, labels `[B, 2]`, weights `[B, L]`, 0 for padding.

        Further sums: "weight", the windows, and "accuracy", those whose start and end are both right.
        """
        logits = jnp.where(weights[..., None] > 0, scores, _NEVER)
        loss, hits = cross_entropy(jnp.swapaxes(logits, 1, 2), labels)
        there = weights.max(-1)
        return (loss.mean(-1) * there).sum(), {"weight": there.sum(), "accuracy": (hits.all(-1) * there).sum()}

    def metrics(self, examples: Questions, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return F1 and exact match by the official rules."""
        assert examples.answers is not None
        predictions = [self.answer(found) for found in find_answers(examples.contexts, inputs, scores)]
        right = [[text for text, _ in answers] for answers in examples.answers]
        return squad_scores(predictions, right, self.no_answer)

    def answer(self, found: Found) -> str:
        """Return the answer, "" if there is none."""
        if not found.best or (self.no_answer and found.null > found.best[0][1]):
            return ""
        return found.best[0][0]

    def predictions(self, examples: Questions, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield records with what `told` says of their answers."""
        answers = find_answers(examples.contexts, inputs, scores)
        for record, found in zip(examples.records(), answers, strict=True):
            yield {**record, **self.told(found)}

    def told(self, found: Found) -> dict[str, Any]:
        """Return the prediction, `nbest`, the 20 best answers, and `null_score` where none is allowed.

        Answers have their score, and the characters where they start and end; the probabilities are shares among these.
        """
        values = np.array([score for _, score in found.best] + [found.null] * self.no_answer, np.float64)
        likely = np.exp(values - values.max(initial=-np.inf))
        shares = (likely / likely.sum()).round(6).tolist()
        nbest = [
            {"text": text, "score": round(score, 4), "probability": share, "start": start, "end": end}
            for (text, score), share, (start, end) in zip(found.best, shares, found.places, strict=False)
        ]
        null = {"null_score": round(found.null, 4)} if self.no_answer else {}
        return {"prediction": self.answer(found), "nbest": nbest, **null}


def find_answers(contexts: list[str], inputs: Encoded, scores: Array) -> list[Found]:
    """Return the best answers of every question, over all its windows; `scores` are `[all tokens, 2]`."""
    windows = cast(Windows, inputs)
    parts: list[list[tuple[float, int, int]]] = [[] for _ in contexts]
    nulls = [np.inf] * len(contexts)
    for row, example in enumerate(windows.examples.tolist()):
        begin, end = int(windows.starts[row]), int(windows.starts[row + 1])
        nulls[example] = min(nulls[example], float(scores[begin].sum()))
        held = slice(begin + int(windows.first_lengths[row]), end - 1)
        parts[example] += _parts(scores[held], windows.places[held])
    made = []
    for context, found, null in zip(contexts, parts, nulls, strict=True):
        best: dict[str, tuple[float, int, int]] = {}
        for part in sorted(found, key=lambda part: -part[0]):
            best.setdefault(context[part[1] : part[2]], part)
        kept = list(best.items())[:BEST]
        texts = [(text, score) for text, (score, _, _) in kept]
        made.append(Found(texts, [(start, end) for _, (_, start, end) in kept], null))
    return made


def _parts(scores: Array, places: Array) -> list[tuple[float, int, int]]:
    """Return (score, first character, last character + 1) of the best parts of a window: `[T, 2]` each."""
    count = len(scores)
    if not count:
        return []
    widths = min(LONGEST_ANSWER, count)
    ends = np.concatenate([scores[:, 1], np.full(widths - 1, -np.inf)])
    sums = (scores[:, :1] + np.lib.stride_tricks.sliding_window_view(ends, widths)).ravel()
    best = np.argpartition(-sums, min(BEST, len(sums)) - 1)[:BEST]
    best = best[np.isfinite(sums[best])]
    first, width = best // widths, best % widths
    return list(zip(sums[best].tolist(), places[first, 0].tolist(), places[first + width, 1].tolist(), strict=True))
