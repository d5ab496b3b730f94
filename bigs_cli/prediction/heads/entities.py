"""Words of a text: the entities they name, or, where labels are no IOB2 tags, the tag of every word."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bigs_cli.data.encode import Encoded
from bigs_cli.evaluation.entities import OUTSIDE, entities
from bigs_cli.evaluation.forms.form import softmax
from bigs_cli.evaluation.forms.tagged import TaggedForm, asked_words
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.heads import Outputs
from bigs_cli.prediction.heads.answerer import names_of, percent, predicting, shown
from bigs_cli.prediction.item import Item, Takes
from bigs_cli.prediction.settings import Settings
from bigs_cli.tasks.examples import Tagged

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Spans = list[tuple[int, int]]


class Entities:
    """An `Answerer` for token-classification heads.

    A tag is that of a word's first piece, as in evaluation. Words that do not fit the length, and those that
    normalization leaves nothing of, have none (`O`).
    """

    takes: Takes = "words"
    by_token = True

    def __init__(self, config: BiGSConfig, settings: Settings, tokenizer: Tokenizer) -> None:
        self._labels = names_of(config)
        self._form = TaggedForm(predicting("tagged", config, labels=self._labels))
        self._iob = is_iob(self._labels)
        self.headers = ("text", "entity" if self._iob else "word", "type", "probability", "characters")

    def encode(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Encoded:
        """Encode words, those given or those of `split_words`, as evaluation does."""
        return self._form.encode(tokenizer, Tagged([words_of(item)[0] for item in items], None), length)

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the logits `[B, L, K]`."""
        return self._form.scores(outputs)

    def answers(self, items: Sequence[Item], inputs: Encoded, scores: Any) -> Iterator[dict[str, Any]]:
        """Yield `entities`, or `words`: text, type (or tag), probability, and the characters from and to it goes.

        Characters are those of the text, or of the words joined by spaces where words were given. The probability of an
        entity is the mean of its words'.
        """
        of_words: list[dict[int, tuple[str, float]]] = [{} for _ in items]
        best, shares = scores.argmax(-1), softmax(scores).max(-1)
        for row, word, place in asked_words(inputs):
            of_words[row][word] = self._labels[best[place]], float(shares[place])
        for item, found in zip(items, of_words, strict=True):
            words, spans = words_of(item)
            if not self._iob:
                tagged = [
                    {"text": words[i], "tag": tag, "probability": round(share, 6), "start": spans[i][0]}
                    | {"end": spans[i][1]}
                    for i, (tag, share) in sorted(found.items())
                ]
                yield {"words": tagged}
                continue
            tags = [found.get(i, (OUTSIDE, 0.0))[0] for i in range(len(words))]
            parts = []
            for kind, first, last in entities(tags):
                start, end = spans[first][0], spans[last - 1][1]
                share = np.mean([found[i][1] for i in range(first, last)]).round(6)
                parts.append(
                    {
                        "text": item.text[start:end],
                        "type": kind,
                        "probability": float(share),
                        "start": start,
                        "end": end,
                    }
                )
            yield {"entities": parts}

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield one row: the text, and its entities or words with what is said of each, one below another."""
        parts = answer["entities"] if self._iob else answer["words"]
        of = "type" if self._iob else "tag"
        lines = [
            (shown(part["text"]), part[of], percent(part["probability"]), f"{part['start']}–{part['end']}")
            for part in parts
        ]
        yield shown(item.text), *("\n".join(column) for column in zip(*lines or [("–", "", "", "")], strict=True))


def is_iob(labels: Sequence[str]) -> bool:
    """Whether labels are IOB2 tags: `O`, and others that begin with `B-` and `I-`."""
    return OUTSIDE in labels and all(label == OUTSIDE or label[:2] in ("B-", "I-") for label in labels)


def words_of(item: Item) -> tuple[list[str], Spans]:
    """Return the words of an item and the characters each goes from and to, in `item.text`."""
    if isinstance(item.first, str):
        spans = list(split_words(item.first))
        return [item.first[start:end] for start, end in spans], spans
    ends = np.cumsum([len(word) + 1 for word in item.first]).tolist()
    return item.first, [(end - 1 - len(word), end - 1) for word, end in zip(item.first, ends, strict=True)]


def split_words(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the words of a text start and end, cut as the corpora of entities are.

    White space parts words; a punctuation mark at either end of one is a word by itself, repeated ones ("''") together.
    Marks inside a word stay: "O'Brien", "U.S", "well-known".
    """
    start = 0
    while start < len(text):
        if text[start].isspace():
            start += 1
            continue
        end = start
        while end < len(text) and not text[end].isspace():
            end += 1
        while start < end and _mark(text[start]):
            same = start + 1
            while same < end and text[same] == text[start]:
                same += 1
            yield start, same
            start = same
        last = end
        while last > start and _mark(text[last - 1]):
            last -= 1
        if start < last:
            yield start, last
        while last < end:
            same = last + 1
            while same < end and text[same] == text[last]:
                same += 1
            yield last, same
            last = same
        start = end


def _mark(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"
