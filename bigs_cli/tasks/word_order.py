"""The demo task "word-order": classify whether the words of a sentence were shuffled.

It needs no download: the sentences come from the text on which the demo is pretrained. Half of them are unchanged
(class 1, natural), and the words of the other half are shuffled (class 0); no sentence is used twice. All are in lower
case without punctuation, so that the classes differ only in the word order. A constant prediction is correct for 50%.
The task shows that a model has learned some English; it is not a benchmark, and scores are only comparable with chance.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.python_docs import PYTHON_DOCS
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types.sequence_classification import TextExamples

DEV_FRACTION = 0.1
CAPS = {"train": 8000, "dev": 1000}
LABELS = ("shuffled", "natural")

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_PROSE = re.compile(r"[A-Z][A-Za-z ,;:'’()\-]*[.!?]")
_WORD = re.compile(r"[a-z]+(?:['’-][a-z]+)*")
_FEWEST, _MOST = 6, 30


def make_examples(split: str, source: str | None = None) -> TextExamples:
    """Return the train or dev split, from the documents of `source` (default: the Python documentation).

    Raises:
        RequestError: the source cannot be read, or has too few sentences.
    """
    from bigs_cli.data.sources import read_documents

    source = source or PYTHON_DOCS
    distinct = split_sentences(split, lambda: read_documents([source]))
    return balance(distinct, CAPS[split], f"the {split} part of {source}")


def split_sentences(split: str, documents: Callable[[], Iterable[str]]) -> set[str]:
    """Return the distinct sentences in `split` of a corpus, which `documents()` reads.

    The dev split is the tenth of the text that `bigs tokenize --heldout 0.1` holds out, so that a model pretrained on
    such shards has not seen it. The rest is the train split, without sentences that also occur in dev.
    """
    from bigs_cli.data.validation import choose_validation_rule

    rule = choose_validation_rule(documents, DEV_FRACTION)
    parts: dict[str, set[str]] = {"train": set(), "dev": set()}
    for text in documents():
        for name, units in zip(("train", "dev"), rule.split(text), strict=True):
            parts[name].update(sentences("".join(units)))
    return parts["dev"] if split == "dev" else parts["train"] - parts["dev"]


def sentences(text: str) -> Iterator[str]:
    """Yield the plain sentences of 6 to 30 words in `text`, in lower case and without punctuation.

    A sentence is plain if it starts with a capital letter, ends with a full stop, question or exclamation mark, and
    contains only letters and simple punctuation. Code, tables and signatures are skipped.
    """
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in _SENTENCE_END.split(" ".join(paragraph.split())):
            words = _WORD.findall(sentence.lower())
            if _FEWEST <= len(words) <= _MOST and _PROSE.fullmatch(sentence) and len(set(words)) > 1:
                yield " ".join(words)


def balance(distinct: Iterable[str], cap: int, where: str) -> TextExamples:
    """Return at most `cap` examples from distinct sentences, ordered by hash, with the two classes alternating.

    Raises:
        RequestError: there are too few sentences for one of each class; the message names the text `where`.
    """
    classes: tuple[list[str], list[str]] = ([], [])
    for sentence in sorted(distinct, key=_hash):
        classes[_hash("class " + sentence)[0] & 1].append(sentence)
    n = min(cap // 2, *map(len, classes))
    if n == 0:
        raise RequestError(
            f"There are too few plain English sentences of {_FEWEST} to {_MOST} words in {where} for "
            f"the task {WORD_ORDER.name}. Pass --data PATH with more text."
        )
    shuffled, natural = (sentence_list[:n] for sentence_list in classes)
    texts = [text for pair in zip(map(shuffle, shuffled), natural, strict=True) for text in pair]
    return TextExamples(texts, None, np.tile(np.arange(2, dtype=np.int32), n), np.arange(2 * n, dtype=np.int64))


def shuffle(sentence: str) -> str:
    """Return the words of `sentence` in another order, which depends only on the sentence.

    The sentence must have two different words; otherwise there is no other order.
    """
    words, result, salt = sentence.split(), sentence, 0
    while result == sentence:
        order = sorted(range(len(words)), key=lambda i, salt=salt: _hash(f"{salt} {i} {sentence}"))
        result = " ".join(words[i] for i in order)
        salt += 1
    return result


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


WORD_ORDER = Task(
    name="word-order",
    title="word order",
    source="https://docs.python.org/3/",
    text_a="sentence",
    labels=LABELS,
    metrics=("accuracy",),
    sizes=CAPS,
    generate=make_examples,
)
