"""SQuAD's exact match and F1 against a reference written from the official rules, without regular expressions."""

from __future__ import annotations

import string

import numpy as np
import pytest

from bigs_cli.tasks.types.question_answering import normalize, squad_scores

WORDS = ("the", "The", "a", "An", "river", "River,", "rivers", "U.S.", "us", "-", "“", "an-the", "theatre", "1,000")
WORDS += ("1000", "Ä", "ä", "the.", "a\u00a0b", "\t", "!", "")


def reference_words(text: str) -> list[str]:
    """Return the words in lower case, without punctuation; articles become spaces, also between other characters."""
    kept = [character for character in text.lower() if character not in string.punctuation]
    pieces: list[str] = []
    run = ""
    for character in [*kept, None]:
        if character is not None and (character.isalnum() or character == "_"):
            run += character
            continue
        pieces.append(" " if run in ("a", "an", "the") else run)
        run = ""
        if character is not None:
            pieces.append(character)
    return "".join(pieces).split()


def reference_f1(mine: list[str], right: list[str], version: int) -> float:
    if version == 2 and (not mine or not right):
        return float(mine == right)
    rest, same = list(right), 0
    for word in mine:
        if word in rest:
            rest.remove(word)
            same += 1
    if same == 0:
        return 0.0
    precision, recall = same / len(mine), same / len(right)
    return 2 * precision * recall / (precision + recall)


def reference_scores(predictions: list[str], answers: list[list[str]], version: int) -> tuple[float, float]:
    f1 = exact = 0.0
    for prediction, right in zip(predictions, answers, strict=True):
        golds = [reference_words(text) for text in right]
        if version == 2:
            golds = [gold for gold in golds if gold] or [[]]
        mine = reference_words(prediction)
        f1 += max(reference_f1(mine, gold, version) for gold in golds)
        exact += max(" ".join(mine) == " ".join(gold) for gold in golds)
    return f1 / len(predictions), exact / len(predictions)


@pytest.mark.parametrize("version", [1, 2])
def test_scores_match_the_reference_on_ten_thousand_random_questions(version: int) -> None:
    random = np.random.default_rng(version)

    def text() -> str:
        words = [WORDS[i] for i in random.integers(0, len(WORDS), random.integers(0, 6))]
        return (" ", "  ", "")[random.integers(0, 3) if random.random() < 0.3 else 0].join(words)

    seen = set()
    for _ in range(5_000):
        count = random.integers(1, 4)
        answers = [[text() for _ in range(random.integers(2 - version, 4))] for _ in range(count)]
        guesses = [
            right[0] + " the" * (i % 2) if right and random.random() < 0.4 else "" for i, right in enumerate(answers)
        ]
        predictions = [guess or text() for guess in guesses]
        f1, exact = reference_scores(predictions, answers, version)
        scores = squad_scores(predictions, answers, no_answer=version == 2)
        assert list(scores) == ["f1", "exact"]
        assert abs(scores["f1"] - f1) < 1e-9, (predictions, answers)
        assert abs(scores["exact"] - exact) < 1e-9, (predictions, answers)
        seen.add((f1 in (0, 1), exact in (0, 1)))
    assert len(seen) == 4


def test_case_punctuation_and_articles_are_ignored() -> None:
    assert normalize("The  U.S. Army’s\ta-theatre, an a.") == "us army’s atheatre"
    assert squad_scores(["the Broncos!"], [["Panthers", "broncos"]]) == {"f1": 1.0, "exact": 1.0}
    assert squad_scores(["Denver Broncos"], [["broncos"]]) == {"f1": 2 / 3, "exact": 0.0}


def test_the_versions_differ_if_normalization_leaves_no_words() -> None:
    assert squad_scores(["the"], [["a"]]) == {"f1": 0.0, "exact": 1.0}
    assert squad_scores(["the"], [["a"]], no_answer=True) == {"f1": 1.0, "exact": 1.0}
    assert squad_scores(["", "river", ""], [[], [], ["river"]], no_answer=True) == {"f1": 1 / 3, "exact": 1 / 3}
