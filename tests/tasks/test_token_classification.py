"""Token classification: the positions of labels, truncated texts, and metrics from the scores of tokens."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tokenizers import Tokenizer

from bigs_cli.data.tokenizer import train_tokenizer
from bigs_cli.tasks import get_task
from bigs_cli.tasks.types import type_of
from bigs_cli.tasks.types.token_classification import TokenExamples, encode_words
from tests.tiny import DOCUMENTS

WORDS = [["The", "harbours", "unsailed,", "\u200d", "of", "Salt"], ["river"], []]
TAGS = [[0, 5, 6, 1, 0, 3], [5], []]
WIKIANN = type_of(get_task("wikiann"))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(DOCUMENTS, 300)


def perfect(labels: np.ndarray) -> np.ndarray:
    """Return scores that predict the label of every labelled token, and for others a class that is never right here."""
    scores = np.zeros((len(labels), 7), np.float32)
    scores[np.arange(len(labels)), np.where(labels >= 0, labels, 4)] = 9
    return scores


def test_labels_are_at_the_first_piece_of_each_word(tokenizer: Tokenizer) -> None:
    made = encode_words(tokenizer, WORDS, TAGS, 64)
    assert made.by_token
    for row, words in enumerate(WORDS):
        tokens = made.ids[made.starts[row] : made.starts[row + 1]].tolist()
        names = [tokenizer.id_to_token(token) for token in tokens]
        assert (names[0], names[-1]) == ("[CLS]", "[SEP]")
        labels = made.labels[made.starts[row] : made.starts[row + 1]]
        at = iter(np.flatnonzero(labels >= 0))
        place = 1
        for number, word in enumerate(words):
            pieces = tokenizer.encode(word, add_special_tokens=False).ids
            assert tokens[place : place + len(pieces)] == pieces
            if pieces:
                assert next(at) == place
                assert labels[place] == TAGS[row][number]
            place += len(pieces)
        assert next(at, None) is None
        assert place == len(tokens) - 1
    assert (made.labels >= 0).sum() == 6  # the word that is only a joiner has no piece
    assert len(made.ids) > 6 + 2 * 3


def test_a_batch_counts_first_pieces_only(tokenizer: Tokenizer) -> None:
    rows = np.arange(3)
    batch = encode_words(tokenizer, WORDS, TAGS, 64).trimmed(rows).batch(rows, 4)
    assert batch["labels"].shape == batch["weights"].shape == (4, 32)
    assert batch["weights"].sum() == 6
    assert batch["labels"][batch["weights"] > 0].tolist() == [0, 5, 6, 0, 3, 5]


def test_perfect_predictions_are_perfect_except_for_truncated_words(tokenizer: Tokenizer) -> None:
    examples = TokenExamples([words for words in WORDS if words], [[0, 5, 6, 0, 0, 3], [5]])
    inputs = WIKIANN.encode(tokenizer, examples, 64)
    scores = perfect(inputs.labels)
    assert WIKIANN.metrics(examples, inputs, scores) == dict.fromkeys(("f1", "precision", "recall", "accuracy"), 1.0)
    lines = list(WIKIANN.predictions(examples, inputs, scores))
    assert lines[0]["prediction"] == lines[0]["label"] == ["O", "B-LOC", "I-LOC", "O", "O", "B-ORG"]
    assert lines[0]["scores"][3] is None
    assert all(share > 0.99 for share in lines[0]["scores"][:3])

    whole = inputs.starts[1]
    cut = WIKIANN.encode(tokenizer, examples, int(whole) - 1)
    metrics = WIKIANN.metrics(examples, cut, perfect(cut.labels))
    assert metrics == pytest.approx({"f1": 0.8, "precision": 1.0, "recall": 2 / 3, "accuracy": 6 / 7})
    assert cut.lengths.max() == whole - 1


def test_examples_without_tags_have_predictions(tokenizer: Tokenizer) -> None:
    tagged = TokenExamples(WORDS, TAGS)
    known = WIKIANN.encode(tokenizer, tagged, 64)
    hidden = dataclasses.replace(tagged, tags=None)
    inputs = WIKIANN.encode(tokenizer, hidden, 64)
    assert inputs.labels is None
    lines = list(WIKIANN.predictions(hidden, inputs, perfect(known.labels)))
    assert [line["prediction"] for line in lines] == [["O", "B-LOC", "I-LOC", "O", "O", "B-ORG"], ["B-LOC"], []]
    assert "label" not in lines[0]
