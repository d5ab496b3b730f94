"""Token classification: a tag for each word of a sentence, such as named entities.

Entities are scored by the rule of CoNLL's `conlleval` (https://www.clips.uantwerpen.be/conll2003/ner/): an entity is
found if its first word, its last word and its type are all right.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.core.wording import printable
from bigs_cli.data.encode import Encoded
from bigs_cli.data.words import EncodedWords, encode_words
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.items import InputFormat, Item
from bigs_cli.tasks.labels import label_column, parse_label, text_columns
from bigs_cli.tasks.reading import Table, not_text
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types.base import (
    Array,
    ErrorSize,
    ExampleScores,
    Lines,
    Metric,
    TaskType,
    foreign_predictions,
    pairs_of,
    percent_text,
    softmax,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OUTSIDE = "O"
WORDS = InputFormat(
    wanted="one text, or the list of its words",
    words=True,
    column_hint="Name that of the text or its words: --text COLUMN",
    key_hint="Put the text under 'text', or its words under 'words'",
)


@dataclass(frozen=True)
class TokenExamples(Examples):
    """Sentences split into words, each word with a tag.

    `words` are n lists; `tags`, of the same shape, are ids in the order of `Task.labels`, or None.
    """

    words: list[list[str]]
    tags: list[list[int]] | None

    @property
    def labelled(self) -> bool:
        """Whether there are tags."""
        return self.tags is not None

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield id, words and label: the tags."""
        for i, words in enumerate(self.words):
            yield {"id": i, "words": words} | ({} if self.tags is None else {"label": self.tags[i]})


class TokenClassification(TaskType):
    """Cross-entropy over the tags, at the first token of each word.

    The other tokens of a word have no label. Words that do not fit the length, and those of which normalization leaves
    nothing, count as predicted `O`.
    """

    head = "token-classification"
    by_token = True
    has_labels = True
    unit = "word"
    right_name = "whole sentences"
    takes = WORDS

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.labels = task.labels or ()
        self.has_entities = is_iob(self.labels)
        self.headers = ("text", "entity" if self.has_entities else "word", "type", "probability", "characters")

    def examples_in(self, table: Table) -> TokenExamples:
        """Return rows as sentences: lists of words, and lists of tags as long."""
        text, _ = text_columns(self.task, table)
        words = table.column(text)
        for sentence, place in zip(words, table.places, strict=True):
            if not isinstance(sentence, list) or not all(isinstance(word, str) for word in sentence):
                raise not_text(sentence, text, place)
        column = label_column(self.task, table)
        tags = [row or [] for row in table.column(column)] if column else []
        if not any(tags):
            return TokenExamples(words, None)
        ids = []
        for sentence, marks, place in zip(words, tags, table.places, strict=True):
            if len(sentence) != len(marks):
                raise RequestError(f"{place}: {len(sentence)} words have {len(marks)} tags.")
            ids.append([int(parse_label(self.task, tag, f"{place}, word {at}")) for at, tag in enumerate(marks, 1)])
        return TokenExamples(words, ids)

    def encode(self, tokenizer: Tokenizer, examples: TokenExamples, length: int) -> EncodedWords:
        """Encode sentences, truncated to `length`."""
        return encode_words(tokenizer, examples.words, examples.tags, length)

    def metrics(self, examples: TokenExamples, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return F1, precision and recall of the entities, and the accuracy of the tags, over all words."""
        assert examples.tags is not None
        truth = [self.label_name(tags) for tags in examples.tags]
        predicted = [answer["prediction"] for answer in self.answers(examples, inputs, scores)]
        hits = [a == b for true, mine in zip(truth, predicted, strict=True) for a, b in zip(true, mine, strict=True)]
        return {**entity_scores(truth, predicted), "accuracy": sum(hits) / max(len(hits), 1)}

    def answers(self, examples: TokenExamples, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield the predicted tags by name, and the probability of each: None for words that were not read."""
        read = self._read_words(len(examples), inputs, scores)
        for words, found in zip(examples.words, read, strict=True):
            both = [found.get(i, (OUTSIDE, None)) for i in range(len(words))]
            shares = [None if share is None else round(share, 6) for _, share in both]
            yield {"prediction": [tag for tag, _ in both], "scores": shares}

    def _read_words(self, count: int, inputs: Encoded, scores: Array) -> list[dict[int, tuple[str, float]]]:
        """Return, for each sentence, the predicted tag and its probability of every word that the model reads."""
        found: list[dict[int, tuple[str, float]]] = [{} for _ in range(count)]
        best, shares = scores.argmax(-1), softmax(scores).max(-1)
        words = cast(EncodedWords, inputs).words
        places = np.flatnonzero(words >= 0)
        rows = np.searchsorted(inputs.starts, places, side="right") - 1
        for row, word, place in zip(rows.tolist(), words[places].tolist(), places.tolist(), strict=True):
            found[row][word] = self.labels[best[place]], float(shares[place])
        return found

    def label_name(self, label: list[int]) -> list[str]:
        """Return the names of tags."""
        return [self.labels[tag] for tag in label]

    def label_text(self, label: list[int]) -> str:
        """Return the names of tags, in a row."""
        return " ".join(self.label_name(label))

    def example_scores(self, lines: Lines) -> ExampleScores:
        """Score sentences: right are those whose tags all are."""
        try:
            counts = np.array([entity_counts(line["label"], line["prediction"]) for line in lines]).reshape(-1, 3)
            hits = [[a == b for a, b in zip(line["label"], line["prediction"], strict=True)] for line in lines]
            words = np.array([(sum(sentence), len(sentence)) for sentence in hits]).reshape(-1, 2)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise foreign_predictions(self.task, error) from error

        def entity_metric(name: str) -> Metric:
            return lambda places: scores_of_counts(*counts[places].sum(0).tolist())[name]

        def accuracy(places: Array) -> float:
            hit, there = words[places].sum(0).tolist()
            return hit / max(there, 1)

        metrics: dict[str, Metric] = {name: entity_metric(name) for name in ("f1", "precision", "recall")}
        return ExampleScores(len(lines), {**metrics, "accuracy": accuracy}, words[:, 0] == words[:, 1])

    def label_pairs(self, lines: Lines) -> tuple[Array, Array]:
        """Return class ids, one pair for each word."""
        ids = {name: i for i, name in enumerate(self.labels)}
        return pairs_of(
            self.task,
            lambda: [
                (ids[label], ids[tag])
                for line in lines
                for label, tag in zip(line["label"], line["prediction"], strict=True)
            ],
        )

    def majority(self, lines: Lines) -> tuple[str, list[Any]]:
        """Return the tag `O` for every word."""
        return OUTSIDE, [[OUTSIDE] * len(line["label"]) for line in lines]

    def constant_answer(self, lines: Lines) -> str | None:
        """Return the tag that all words of all lines have."""
        answers = {tag for line in lines for tag in line["prediction"]}
        return f"“{answers.pop()}”" if len(answers) == 1 else None

    @property
    def error_size(self) -> ErrorSize:
        """Rank sentences by the number of wrong tags."""

        def wrong_tags(line: Mapping[str, Any]) -> int:
            return sum(label != tag for label, tag in zip(line["label"], line["prediction"], strict=True))

        return ErrorSize("Most wrong tags", "wrong tags", wrong_tags, str)

    def examples_of(self, items: Sequence[Item]) -> TokenExamples:
        """Return the words of items: those given, or those of `split_words`."""
        return TokenExamples([words_of(item)[0] for item in items], None)

    def answer_items(self, items: Sequence[Item], inputs: Encoded, scores: Any, top: int) -> Iterator[dict[str, Any]]:
        """Yield `entities`, or `words` where the labels are not IOB2 tags.

        Each has text, type (or tag), probability, start and end: characters of the text, or of the words joined by
        spaces where words were given. The probability of an entity is the mean of its words'.
        """
        for item, found in zip(items, self._read_words(len(items), inputs, scores), strict=True):
            words, spans = words_of(item)
            if not self.has_entities:
                yield {
                    "words": [
                        _part(words[i], "tag", tag, round(share, 6), spans[i])
                        for i, (tag, share) in sorted(found.items())
                    ]
                }
                continue
            parts = []
            for kind, first, last in entities([found.get(i, (OUTSIDE, 0.0))[0] for i in range(len(words))]):
                span = spans[first][0], spans[last - 1][1]
                share = float(np.mean([found[i][1] for i in range(first, last)]).round(6))
                parts.append(_part(item.text[slice(*span)], "type", kind, share, span))
            yield {"entities": parts}

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield one row: the text, and its entities or words with their tags, one below another."""
        parts, tag = (answer["entities"], "type") if self.has_entities else (answer["words"], "tag")
        texts = [printable(part["text"], 60) for part in parts] or ["–"]
        shares = [percent_text(part["probability"]) for part in parts]
        spans = [f"{part['start']}–{part['end']}" for part in parts]
        columns = (texts, [part[tag] for part in parts], shares, spans)
        yield printable(item.text, 60), *("\n".join(column) for column in columns)


def _part(text: str, key: str, tag: str, share: float, span: tuple[int, int]) -> dict[str, Any]:
    return {"text": text, key: tag, "probability": share, "start": span[0], "end": span[1]}


def is_iob(labels: Sequence[str]) -> bool:
    """Whether labels are IOB2 tags: `O`, and others that begin with `B-` and `I-`."""
    return OUTSIDE in labels and all(label == OUTSIDE or label[:2] in ("B-", "I-") for label in labels)


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
    """Return the numbers of entities of one sentence that are found rightly, labelled, and found."""
    true, mine = set(entities(truth)), set(entities(predicted))
    return len(true & mine), len(true), len(mine)


def entity_scores(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return `f1`, `precision` and `recall` over all sentences together, as fractions.

    `truth` and `predicted` have the same shape: a tag for every word. Where a definition divides by 0, the value is
    0.0.
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


def words_of(item: Item) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the words of an item, and the characters of `item.text` from and to which each goes."""
    if isinstance(item.text_a, str):
        spans = list(split_words(item.text_a))
        return [item.text_a[start:end] for start, end in spans], spans
    ends = np.cumsum([len(word) + 1 for word in item.text_a]).tolist()
    return item.text_a, [(end - 1 - len(word), end - 1) for word, end in zip(item.text_a, ends, strict=True)]


def split_words(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the words of a text start and end, split as corpora of entities are.

    White space separates words; a punctuation mark at either end of one is a word by itself, repeated ones ("''")
    together. Marks inside a word stay: "O'Brien", "U.S", "well-known".
    """
    for match in re.finditer(r"\S+", text):
        start, end = match.span()
        first = next((i for i in range(start, end) if not _is_mark(text[i])), end)
        last = next((i for i in range(end, first, -1) if not _is_mark(text[i - 1])), first)
        yield from _repeats(text, start, first)
        if first < last:
            yield first, last
        yield from _repeats(text, last, end)


def _repeats(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the runs of one character in `text[start:end]`."""
    while start < end:
        stop = next((i for i in range(start, end) if text[i] != text[start]), end)
        yield start, stop
        start = stop


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"
