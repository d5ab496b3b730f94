"""Exact match and F1 of answers to questions, by the rules of SQuAD's official evaluation scripts.

Rules: `evaluate-v1.1.py` and `evaluate-v2.0.py` of https://rajpurkar.github.io/SQuAD-explorer/. Answers are compared in
lower case, without ASCII punctuation, articles and superfluous white space.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

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
    """Return F1 and exact match of one answer: the best that one of the right `answers` gives."""
    mine, theirs = normalize(prediction), [normalize(answer) for answer in answers]
    if no_answer:
        theirs = [answer for answer in theirs if answer] or [""]
    exact = max((float(mine == answer) for answer in theirs), default=0.0)
    return max((_f1(mine, answer, no_answer) for answer in theirs), default=0.0), exact


def normalize(text: str) -> str:
    """Return `text` as answers are compared; the order of the steps is the official one."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def _f1(mine: str, answer: str, no_answer: bool) -> float:
    """Return the F1 of the words of two normalized texts, each as often as it stands there."""
    if no_answer and not (mine and answer):
        return float(mine == answer)
    words, right = mine.split(), answer.split()
    both = (Counter(words) & Counter(right)).total()
    return 2 * both / (len(words) + len(right)) if both else 0.0
