"""Token classification: a tag for each word of a sentence, such as the tags of named entities.

Entities are scored as in CoNLL's `conlleval` (https://www.clips.uantwerpen.be/conll2003/ner/): an entity is correct if
its first word, its last word and its type are correct.
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
from bigs_cli.data.encode import Encoded, add_special_tokens, joined
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.items import InputFormat, Item
from bigs_cli.tasks.labels import label_column, parse_label, text_columns
from bigs_cli.tasks.reading import Table, not_text_error
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types.base import (
    AnsweringType,
    Array,
    ErrorRanking,
    ExampleScores,
    Lines,
    Metric,
    foreign_predictions_error,
    pairs_of,
    percent_text,
    softmax,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OUTSIDE = "O"
_MAX_WORDS = 12  # maximum number of words shown of a sentence in a comparison
WORDS = InputFormat(
    wanted="one text, or the list of its words",
    words=True,
    column_hint="Name the column of the text or of its words: --text COLUMN",
    key_hint="Put the text under 'text', or its words under 'words'",
)


@dataclass(frozen=True)
class TokenExamples(Examples):
    """Sentences split into words, each word with a tag.

    `words` has n lists; `tags` has the same shape, with ids in the order of `Task.labels`, or is None.
    """

    words: list[list[str]]
    tags: list[list[int]] | None

    @property
    def labelled(self) -> bool:
        """Whether there are tags."""
        return self.tags is not None

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield id, words and label (the tags) of each sentence."""
        for i, words in enumerate(self.words):
            yield {"id": i, "words": words} | ({} if self.tags is None else {"label": self.tags[i]})


@dataclass(frozen=True, kw_only=True)
class EncodedWords(Encoded):
    """One sentence per row. `words` `[all tokens]` int32 is the index of the word that a token begins, and −1 for other
    tokens.
    """

    words: Array


class TokenClassification(AnsweringType):
    """Cross-entropy over the tags, at the first token of each word.

    The other tokens of a word have no label. Words beyond the length, and words that normalization removes, count as
    predicted `O`.
    """

    head = "token-classification"
    by_token = True
    has_labels = True
    unit = "word"
    right_name = "whole sentences"
    label_headers = ("word", "label")
    aligned_cells = True
    takes = WORDS

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.labels = task.labels or ()
        self.has_entities = is_iob(self.labels)
        self.headers = ("text", "entity" if self.has_entities else "word", "type", "probability", "characters")

    def examples_in(self, table: Table) -> TokenExamples:
        """Return rows as sentences: lists of words, and lists of tags of the same length."""
        text, _ = text_columns(self.task, table)
        words = table.column(text)
        for sentence, place in zip(words, table.places, strict=True):
            if not isinstance(sentence, list) or not all(isinstance(word, str) for word in sentence):
                raise not_text_error(sentence, text, place)
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
        """Return F1, precision and recall of the entities, and the accuracy of the tags of all words."""
        assert examples.tags is not None
        truth = [self.label_name(tags) for tags in examples.tags]
        predicted = [answer["prediction"] for answer in self.answers(examples, inputs, scores)]
        pairs = zip(truth, predicted, strict=True)
        hits = [label == tag for labels, tags in pairs for label, tag in zip(labels, tags, strict=True)]
        return {**entity_scores(truth, predicted), "accuracy": sum(hits) / max(len(hits), 1)}

    def answers(self, examples: TokenExamples, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield the predicted tags and their probabilities, which are None for words that the model did not read."""
        tagged = self._tag_words(len(examples), inputs, scores)
        for words, found in zip(examples.words, tagged, strict=True):
            tags = [found.get(i, (OUTSIDE, None)) for i in range(len(words))]
            probabilities = [None if p is None else round(p, 6) for _, p in tags]
            yield {"prediction": [tag for tag, _ in tags], "scores": probabilities}

    def _tag_words(self, count: int, inputs: Encoded, scores: Array) -> list[dict[int, tuple[str, float]]]:
        """Return, for each sentence, word index → (predicted tag, probability) of the words that the model reads."""
        tagged: list[dict[int, tuple[str, float]]] = [{} for _ in range(count)]
        best, probabilities = scores.argmax(-1), softmax(scores).max(-1)
        words = cast(EncodedWords, inputs).words
        tokens = np.flatnonzero(words >= 0)
        rows = np.searchsorted(inputs.starts, tokens, side="right") - 1
        for row, word, token in zip(rows.tolist(), words[tokens].tolist(), tokens.tolist(), strict=True):
            tagged[row][word] = self.labels[best[token]], float(probabilities[token])
        return tagged

    def label_name(self, label: list[int]) -> list[str]:
        """Return the names of tags."""
        return [self.labels[tag] for tag in label]

    def label_text(self, label: list[int]) -> str:
        """Return the names of tags as one string."""
        return " ".join(self.label_name(label))

    def example_scores(self, lines: Lines) -> ExampleScores:
        """Score each sentence; it is correct if all its tags are."""
        try:
            counts = np.array([entity_counts(line["label"], line["prediction"]) for line in lines]).reshape(-1, 3)
            hits = [[a == b for a, b in zip(line["label"], line["prediction"], strict=True)] for line in lines]
            words = np.array([(sum(sentence), len(sentence)) for sentence in hits]).reshape(-1, 2)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise foreign_predictions_error(self.task, error) from error

        def entity_metric(name: str) -> Metric:
            return lambda rows: scores_of_counts(*counts[rows].sum(0).tolist())[name]

        def accuracy(rows: Array) -> float:
            correct, total = words[rows].sum(0).tolist()
            return correct / max(total, 1)

        metrics: dict[str, Metric] = {name: entity_metric(name) for name in ("f1", "precision", "recall")}
        return ExampleScores(len(lines), {**metrics, "accuracy": accuracy}, words[:, 0] == words[:, 1])

    def label_pairs(self, lines: Lines) -> tuple[Array, Array]:
        """Return class ids, one pair per word."""
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
        """Return the tag that is predicted for all words of all lines."""
        answers = {tag for line in lines for tag in line["prediction"]}
        return f"“{answers.pop()}”" if len(answers) == 1 else None

    @property
    def error_ranking(self) -> ErrorRanking:
        """Rank sentences by the number of wrong tags."""

        def wrong_tags(line: Mapping[str, Any]) -> int:
            return sum(label != tag for label, tag in zip(line["label"], line["prediction"], strict=True))

        return ErrorRanking("Most wrong tags", "wrong tags", wrong_tags, str)

    def line_texts(self, line: Mapping[str, Any]) -> Iterator[str]:
        """Yield the words, separated by spaces."""
        yield " ".join(map(str, line.get("words", ())))

    def comparison_cells(self, lines: Lines) -> list[str]:
        """Return cells with the words of a sentence whose tags differ, their labels and predictions, one per line."""
        columns: list[Any] = [lines[0].get("words"), lines[0].get("label"), *(line.get("prediction") for line in lines)]
        if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
            return ["–", *super().comparison_cells(lines)]
        rows = [(str(word), *map(str, tags)) for word, *tags in zip(*columns, strict=True) if len(set(tags)) > 1]
        if len(rows) > _MAX_WORDS:
            more = f"… {len(rows) - _MAX_WORDS + 1:,} more"
            rows = [*rows[: _MAX_WORDS - 1], (more, *[""] * (len(columns) - 1))]
        return ["\n".join(map(printable, cell)) for cell in zip(*rows, strict=True)] or ["–"] * len(columns)

    def examples_of(self, items: Sequence[Item]) -> TokenExamples:
        """Convert items to lists of words: those of the item, or those of `split_words`."""
        return TokenExamples([words_of(item)[0] for item in items], None)

    def answer_items(self, items: Sequence[Item], inputs: Encoded, scores: Any, top: int) -> Iterator[dict[str, Any]]:
        """Yield `entities`, or `words` if the labels are not IOB2 tags.

        Each has text, type (or tag), probability, start and end. These are character indices in the text or, if the
        item has words, in the words joined by spaces. The probability of an entity is the mean over its words.
        """
        for item, found in zip(items, self._tag_words(len(items), inputs, scores), strict=True):
            words, spans = words_of(item)
            if not self.has_entities:
                yield {
                    "words": [
                        _part(words[i], "tag", tag, round(probability, 6), spans[i])
                        for i, (tag, probability) in sorted(found.items())
                    ]
                }
                continue
            parts = []
            for kind, first, last in entities([found.get(i, (OUTSIDE, 0.0))[0] for i in range(len(words))]):
                span = spans[first][0], spans[last - 1][1]
                probability = float(np.mean([found[i][1] for i in range(first, last)]).round(6))
                parts.append(_part(item.text[slice(*span)], "type", kind, probability, span))
            yield {"entities": parts}

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield one row with the text and its entities, or words with their tags, one per line."""
        parts, tag = (answer["entities"], "type") if self.has_entities else (answer["words"], "tag")
        texts = [printable(part["text"], 60) for part in parts] or ["–"]
        probabilities = [percent_text(part["probability"]) for part in parts]
        spans = [f"{part['start']}–{part['end']}" for part in parts]
        columns = (texts, [part[tag] for part in parts], probabilities, spans)
        yield printable(item.text, 60), *("\n".join(column) for column in columns)


def encode_words(
    tokenizer: Tokenizer, sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[int]] | None, length: int
) -> EncodedWords:
    """Encode words as [CLS] words [SEP], truncated to `length`.

    Labels are per token: the tag of a word at its first piece, −1 elsewhere.
    """
    own = add_special_tokens(tokenizer)
    own.enable_truncation(length)
    encodings = own.encode_batch([list(words) for words in sentences], is_pretokenized=True)
    ids, starts = joined([encoding.ids for encoding in encodings])
    words = np.full(len(ids), -1, np.int32)
    labels = None if tags is None else np.full(len(ids), -1, np.int32)
    for row, encoding in enumerate(encodings):
        # The first position of each word. Words that were truncated or removed by normalization have none.
        places = {word: place for place, word in reversed(list(enumerate(encoding.word_ids))) if word is not None}
        for word, place in places.items():
            words[starts[row] + place] = word
            if labels is not None and tags is not None:
                labels[starts[row] + place] = tags[row][word]
    cut = sum(bool(encoding.overflowing) for encoding in encodings)
    return EncodedWords(ids, starts, np.diff(starts), length, labels, by_token=True, cut=cut, words=words)


def _part(text: str, key: str, tag: str, probability: float, span: tuple[int, int]) -> dict[str, Any]:
    return {"text": text, key: tag, "probability": probability, "start": span[0], "end": span[1]}


def is_iob(labels: Sequence[str]) -> bool:
    """Return whether labels are IOB2 tags: `O`, and others that start with `B-` or `I-`."""
    return OUTSIDE in labels and all(label == OUTSIDE or label[:2] in ("B-", "I-") for label in labels)


def entities(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Yield (type, first word, last word + 1) of the entities in `tags` (`B-PER`, `I-PER`, …, `O`).

    An entity starts at every B-, and at an I- that does not continue an entity of the same type, as in IOB1.
    """
    kind, first = "", 0
    for i, tag in enumerate([*tags, OUTSIDE]):
        mark, _, tag_kind = tag.partition("-")
        if kind and (mark != "I" or tag_kind != kind):
            yield kind, first, i
            kind = ""
        if mark != OUTSIDE and not kind:
            kind, first = tag_kind, i


def entity_counts(truth: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """Return the numbers of correct, labelled and predicted entities of one sentence."""
    labelled, found = set(entities(truth)), set(entities(predicted))
    return len(labelled & found), len(labelled), len(found)


def entity_scores(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return `f1`, `precision` and `recall` over all sentences, as fractions.

    `truth` and `predicted` have the same shape, with one tag per word. A value whose definition divides by 0 is 0.0.
    """
    counts = [entity_counts(labels, tags) for labels, tags in zip(truth, predicted, strict=True)]
    return scores_of_counts(*(sum(column) for column in zip((0, 0, 0), *counts, strict=True)))


def scores_of_counts(correct: int, labelled: int, predicted: int) -> dict[str, float]:
    """Return `f1`, `precision` and `recall` from sums of `entity_counts`."""
    return {
        "f1": 2 * correct / (labelled + predicted) if correct else 0.0,
        "precision": correct / predicted if predicted else 0.0,
        "recall": correct / labelled if labelled else 0.0,
    }


def words_of(item: Item) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the words of an item and their character spans in `item.text`."""
    if isinstance(item.text_a, str):
        spans = list(split_words(item.text_a))
        return [item.text_a[start:end] for start, end in spans], spans
    ends = np.cumsum([len(word) + 1 for word in item.text_a]).tolist()
    return item.text_a, [(end - 1 - len(word), end - 1) for word, end in zip(item.text_a, ends, strict=True)]


def split_words(text: str) -> Iterator[tuple[int, int]]:
    """Yield the character spans of the words of a text, split as in entity corpora.

    White space separates words. A punctuation mark at either end of a word is a separate word; repeated marks ("''")
    form one word. Marks inside a word are kept: "O'Brien", "U.S", "well-known".
    """
    for match in re.finditer(r"\S+", text):
        start, end = match.span()
        first = next((i for i in range(start, end) if not _is_mark(text[i])), end)
        last = next((i for i in range(end, first, -1) if not _is_mark(text[i - 1])), first)
        yield from _runs(text, start, first)
        if first < last:
            yield first, last
        yield from _runs(text, last, end)


def _runs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the spans of repeated characters in `text[start:end]`."""
    while start < end:
        stop = next((i for i in range(start, end) if text[i] != text[start]), end)
        yield start, stop
        start = stop


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"
