"""Entity scores against an independent reference, which tries every span instead of reading the tags in order."""

from __future__ import annotations

import numpy as np
import pytest

from bigs_cli.tasks.types.token_classification import entities, entity_scores

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")


def reference_spans(tags: list[str]) -> set[tuple[str, int, int]]:
    """Return every span that begins where conlleval begins a chunk and ends where no tag continues it."""

    def kind(place: int) -> str:
        return tags[place][2:] if 0 <= place < len(tags) else ""

    def begins(place: int) -> bool:
        return tags[place][0] == "B" or (tags[place][0] == "I" and kind(place - 1) != kind(place))

    def continues(place: int) -> bool:
        return place < len(tags) and tags[place][0] == "I" and kind(place - 1) == kind(place)

    return {
        (kind(first), first, end)
        for first in range(len(tags))
        for end in range(first + 1, len(tags) + 1)
        if begins(first) and all(continues(place) for place in range(first + 1, end)) and not continues(end)
    }


def test_scores_match_the_reference_on_ten_thousand_random_corpora() -> None:
    random = np.random.default_rng(0)
    for case in range(10_000):
        lengths = random.integers(0, 7, random.integers(1, 4))
        share = random.random()
        truth = [[TAGS[i] for i in random.integers(0, len(TAGS), n)] for n in lengths]
        mine = [[tag if random.random() < share else TAGS[random.integers(0, 7)] for tag in tags] for tags in truth]
        true, found = (
            {(row, *span) for row, tags in enumerate(side) for span in reference_spans(tags)} for side in (truth, mine)
        )
        precision = len(true & found) / len(found) if found else 0.0
        recall = len(true & found) / len(true) if true else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        scores = entity_scores(truth, mine)
        assert list(scores) == ["f1", "precision", "recall"]
        for name, value in (("f1", f1), ("precision", precision), ("recall", recall)):
            assert abs(scores[name] - value) < 1e-9, (case, name, truth, mine)


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("I-PER I-PER", [("PER", 0, 2)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("O I-LOC O", [("LOC", 1, 2)]),
        ("O O", []),
    ],
)
def test_an_i_tag_that_continues_no_entity_begins_one(tags: str, spans: list[tuple[str, int, int]]) -> None:
    assert list(entities(tags.split())) == spans


def test_partial_entities_and_other_types_are_wrong() -> None:
    truth = [["B-PER", "I-PER", "O", "B-LOC"]]
    assert entity_scores(truth, [["B-PER", "O", "O", "B-LOC"]]) == {"f1": 0.5, "precision": 0.5, "recall": 0.5}
    assert entity_scores(truth, [["B-ORG", "I-ORG", "O", "O"]]) == {"f1": 0.0, "precision": 0.0, "recall": 0.0}
    assert entity_scores(truth, [["O", "O", "O", "B-LOC"]]) == {"f1": 2 / 3, "precision": 1.0, "recall": 0.5}
