"""Multiple choice: which of several endings continues a text."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.core.wording import printable
from bigs_cli.data.encode import Encoded, encode_texts
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.items import InputFormat, Item
from bigs_cli.tasks.labels import read_labels, text_columns
from bigs_cli.tasks.metrics import compute
from bigs_cli.tasks.reading import Table
from bigs_cli.tasks.types.base import (
    AnsweringType,
    Array,
    ExampleScores,
    Lines,
    class_scores,
    pairs_of,
    percent_text,
    softmax,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ENDINGS = InputFormat(
    wanted="a text and its endings",
    endings=True,
    column_hint="Name the column of the text that the endings follow: --text COLUMN",
    key_hint="Put the text that the endings follow under 'text'",
    example=': {"text": …, "endings": […, …]}',
)


@dataclass(frozen=True)
class ChoiceExamples(Examples):
    """Texts with an equal number of endings each, of which one is correct.

    `text_a` has n texts, `endings` n lists of equal length, and `labels` `[n]` int32 the index of the correct one, or
    is None.
    """

    text_a: list[str]
    endings: list[list[str]]
    labels: Array | None

    @property
    def labelled(self) -> bool:
        """Whether the correct endings are known."""
        return self.labels is not None

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield id, text, choices and label (the index of the correct one) of each example."""
        for i, text in enumerate(self.text_a):
            record: dict[str, Any] = {"id": i, "text": text, "choices": self.endings[i]}
            yield record if self.labels is None else {**record, "label": int(self.labels[i])}


class MultipleChoice(AnsweringType):
    """One score for each ending, with the cross-entropy over the endings of a text."""

    head = "multiple-choice"
    takes = ENDINGS
    learns_from_teacher = True
    headers = ("text", "ending", "probability")

    def examples_in(self, table: Table) -> ChoiceExamples:
        """Return rows as texts with their endings, each in a column of its own."""
        text, _ = text_columns(self.task, table)
        table.require(self.task.endings, f", which {self.task.title} needs")
        endings = [list(row) for row in zip(*map(table.texts, self.task.endings), strict=True)]
        places = tuple(map(str, range(len(self.task.endings))))  # labels count the endings from 0
        labels = read_labels(dataclasses.replace(self.task, labels=places, digits=False), table)
        return ChoiceExamples(table.texts(text), endings, labels)

    def encode(self, tokenizer: Tokenizer, examples: ChoiceExamples, length: int) -> Encoded:
        """Encode [CLS] text [SEP] ending [SEP] for each ending; the longer of the two is truncated."""
        count = len(self.task.endings)
        text_a = [text for text in examples.text_a for _ in range(count)]
        endings = [ending for endings in examples.endings for ending in endings]
        encoded = encode_texts(tokenizer, text_a, endings, length, examples.labels)
        return dataclasses.replace(encoded, choices=count)

    def metrics(self, examples: ChoiceExamples, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return the metrics of the endings with the highest scores."""
        assert examples.labels is not None
        return compute(self.task.metrics, examples.labels, scores.argmax(-1))

    def answers(self, examples: ChoiceExamples, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield the index of the predicted ending and the probabilities of all endings."""
        for row in scores:
            yield {"prediction": int(row.argmax()), "scores": softmax(row).round(6).tolist()}

    def example_scores(self, lines: Lines) -> ExampleScores:
        """Score each choice as correct or wrong."""
        pairs = pairs_of(self.task, lambda: [(float(line["label"]), float(line["prediction"])) for line in lines])
        return class_scores(self.task, *pairs)

    def majority(self, lines: Lines) -> tuple[str, list[Any]]:
        """Return the index that is correct most often."""
        answer = Counter(line["label"] for line in lines).most_common(1)[0][0]
        return f"ending {int(answer) + 1}", [answer] * len(lines)

    def constant_answer(self, lines: Lines) -> str | None:
        """Return the ending, counted from 1, that is predicted for all lines."""
        answers = {line["prediction"] for line in lines}
        return f"“ending {int(answers.pop()) + 1}”" if len(answers) == 1 else None

    def probability(self, line: Mapping[str, Any]) -> float:
        """Return the probability of the predicted ending."""
        scores, index = line.get("scores", ()), line["prediction"]
        return float(scores[index]) if isinstance(index, int) and index < len(scores) else 0.0

    def line_texts(self, line: Mapping[str, Any]) -> Iterator[str]:
        """Yield the text and its endings."""
        yield from super().line_texts(line)
        yield from map(str, line.get("choices", ()))

    def examples_of(self, items: Sequence[Item]) -> ChoiceExamples:
        """Convert items to texts with endings; the number of endings may differ between items."""
        return ChoiceExamples([item.text for item in items], [list(item.endings) for item in items], None)

    def encode_items(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Encoded:
        """Encode one row per ending, because the number of endings may differ between items."""
        text_a = [item.text for item in items for _ in item.endings]
        return encode_texts(tokenizer, text_a, [ending for item in items for ending in item.endings], length)

    def answer_items(self, items: Sequence[Item], inputs: Encoded, scores: Any, top: int) -> Iterator[dict[str, Any]]:
        """Yield `prediction`, the index of the most probable ending, its text as `ending`, and all `scores`."""
        ends = np.cumsum([len(item.endings) for item in items])[:-1]
        for item, row in zip(items, np.split(scores, ends), strict=True):
            best = int(row.argmax())
            yield {"prediction": best, "ending": item.endings[best], "scores": softmax(row).round(6).tolist()}

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield one row per ending, the most probable first."""
        first = printable(item.text, 60)
        for probability, ending in sorted(zip(answer["scores"], item.endings, strict=True), key=lambda pair: -pair[0]):
            yield first, printable(ending, 60), percent_text(probability)
            first = ""
