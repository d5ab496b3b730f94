"""The word-order task: selection of sentences, balanced labels, and splits without common sentences."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigs_cli.core.errors import RequestError
from bigs_cli.tasks import TASKS
from bigs_cli.tasks.word_order import balance, sentences, shuffle, split_sentences

NOUNS = ("file", "list", "number", "string", "module", "class", "thread", "value")
DOCUMENTS = [
    f"Part {i}.\n\nThe {a} of every {b} is kept in the first {a}. It returns a new {b} if no {a} was given."
    for i, (a, b) in enumerate((a, b) for a in NOUNS for b in NOUNS)
]


def test_only_plain_sentences_of_some_length_are_used() -> None:
    text = """Return the value. Open the file
    for reading, and don't close it again! X = foo(1) is no sentence of the kind wanted here.

    >>> code_is_passed_over(and it has many words in it).
    the small first letter is not the start of one.

    Is this well-formed sentence the last one here?"""
    assert list(sentences(text)) == [
        "open the file for reading and don't close it again",
        "is this well-formed sentence the last one here",
    ]
    assert list(sentences("Word " * 31 + "ends.")) == []


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["a", "b", "the", "of"]), min_size=2, max_size=30).filter(lambda w: len(set(w)) > 1))
def test_shuffling_keeps_the_words_and_changes_their_order(words: list[str]) -> None:
    sentence = " ".join(words)
    assert shuffle(sentence) != sentence
    assert Counter(shuffle(sentence).split()) == Counter(words)
    assert shuffle(sentence) == shuffle(sentence)


def test_splits_are_balanced_disjoint_and_deterministic() -> None:
    parts = {split: split_sentences(split, lambda: DOCUMENTS) for split in ("train", "dev")}
    assert not parts["train"] & parts["dev"]
    assert len(parts["train"]) > len(parts["dev"]) > 0
    examples = balance(parts["train"], 8000, "here")
    assert examples.labels is not None
    assert np.array_equal(examples.labels, np.tile([0, 1], len(examples) // 2))
    words = [tuple(sorted(text.split())) for text in examples.text_a]
    sources = {tuple(sorted(sentence.split())) for sentence in parts["train"]}
    assert set(words) <= sources
    for text, label in zip(examples.text_a, examples.labels, strict=True):
        assert (text in parts["train"]) == (label == 1)
    assert balance(sorted(parts["train"], reverse=True), 8000, "here").text_a == examples.text_a
    assert balance(parts["train"], 10, "here").text_a == examples.text_a[:10]


def test_too_little_text_is_refused() -> None:
    with pytest.raises(RequestError, match=r"too few plain English sentences .* in this text.*--data PATH"):
        balance([], 100, "this text")
    assert TASKS["word-order"].labels == ("shuffled", "natural")
