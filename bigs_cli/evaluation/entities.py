"""Precision, recall and F1 of entities by the rule of CoNLL's `conlleval`.

Rule: https://www.clips.uantwerpen.be/conll2003/ner/. An entity counts as found if its first word, its last word and its
type are all right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

OUTSIDE = "O"


def entities(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Yield (type, first word, last word + 1) of the entities that `tags` (`B-PER`, `I-PER`, …, `O`) mark.

    An entity begins at every B-, and at an I- that does not continue one of its own type, as in IOB1.
    """
    kind, first = "", 0
    for place, tag in enumerate([*tags, OUTSIDE]):
        mark, _, this = tag.partition("-")
        if kind and (mark != "I" or this != kind):
            yield kind, first, place
            kind = ""
        if mark != OUTSIDE and not kind:
            kind, first = this, place


def entity_counts(truth: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """Return how many entities of one sentence are rightly found, there, and found."""
    true, mine = set(entities(truth)), set(entities(predicted))
    return len(true & mine), len(true), len(mine)


def entity_scores(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return `f1`, `precision` and `recall` over all sentences together, as fractions.

    `truth` and `predicted` are alike in shape: a tag for every word. What would divide by zero is 0.0.
    """
    counts = [entity_counts(true, mine) for true, mine in zip(truth, predicted, strict=True)]
    return scores_of_counts(*(sum(column) for column in zip((0, 0, 0), *counts, strict=True)))


def scores_of_counts(right: int, there: int, found: int) -> dict[str, float]:
    """Return `f1`, `precision` and `recall` of sums of `entity_counts`."""
    return {
        "f1": 2 * right / (there + found) if right else 0.0,
        "precision": right / found if found else 0.0,
        "recall": right / there if there else 0.0,
    }
