"""WikiANN, English: the people, organizations and places that are named in sentences of Wikipedia.

Pan et al. 2017 (https://aclanthology.org/P17-1178), in the balanced splits of Rahimi et al. 2019
(https://github.com/afshinrahimi/mmner). Its files have the CoNLL format, with `en:` before every word.
"""

from __future__ import annotations

import re
from pathlib import Path

from bigs_cli.core.errors import RequestError
from bigs_cli.tasks.jsonl import read_lines
from bigs_cli.tasks.labels import parse_label
from bigs_cli.tasks.task import Hub, Task
from bigs_cli.tasks.types.token_classification import TokenExamples

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)*:")


def read_conll(task: Task, path: Path) -> TokenExamples:
    """Read the sentences of a file with one word per line and blank lines between sentences.

    The first column is the word and the last its tag. Columns are separated by tabs or, in lines without tabs, spaces.
    Lines with `-DOCSTART-` are skipped. A language prefix that every word has, as in `en:word`, is removed.

    Raises:
        RequestError: a line has no tag or an invalid tag; the message names file and line.
    """
    words: list[list[str]] = [[]]
    tags: list[list[int]] = [[]]
    for number, line in read_lines(path):
        if not line.strip(" \t"):
            if words[-1]:
                words.append([])
                tags.append([])
            continue
        columns = line.rstrip("\t ").split("\t") if "\t" in line else [part for part in line.split(" ") if part]
        if columns[0] == "-DOCSTART-":
            continue
        if len(columns) < 2:
            raise RequestError(
                f"{path}:{number}: '{line}' has no tag. A line has a word and, after a tab or a space, its tag."
            )
        words[-1].append(columns[0])
        tags[-1].append(int(parse_label(task, columns[-1], f"{path}:{number}")))
    if not words[-1]:
        words.pop()
        tags.pop()
    if not words:
        raise RequestError(f"{path} holds no examples. Fetch or make it again.")
    return TokenExamples(_without_language(words), tags)


def _without_language(words: list[list[str]]) -> list[list[str]]:
    prefix = _LANGUAGE.match(words[0][0])
    if prefix is None or not all(word.startswith(prefix[0]) for sentence in words for word in sentence):
        return words
    return [[word.removeprefix(prefix[0]) for word in sentence] for sentence in words]


WIKIANN = Task(
    name="wikiann",
    type="token-classification",
    title="WikiANN",
    source="https://aclanthology.org/P17-1178",
    folder="wikiann-en",
    files={split: (split, f"{split}.txt", f"{split}.conll") for split in ("train", "dev", "test")},
    read=read_conll,
    text_a="tokens",
    label="ner_tags",
    labels=("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"),
    digits=False,
    metrics=("f1", "precision", "recall", "accuracy"),
    sizes={"train": 20000, "dev": 10000, "test": 10000},
    hub=Hub("en", "tokens", None, {"train": "train", "dev": "validation", "test": "test"}, repo="unimelb-nlp/wikiann"),
)
