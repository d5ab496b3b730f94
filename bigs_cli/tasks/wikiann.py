"""WikiANN, English: the people, organizations and places that are named in sentences of Wikipedia.

Pan et al. 2017 (https://aclanthology.org/P17-1178), in the balanced splits of Rahimi et al. 2019
(https://github.com/afshinrahimi/mmner). Its files have the CoNLL format, with `en:` before every word.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bigs_cli.core.errors import RequestError
from bigs_cli.data.files import local_file
from bigs_cli.data.rows import raise_on_bad
from bigs_cli.tasks.task import Hub, Task

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)*:")


def conll_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the sentences of a file with one word per line and blank lines between sentences.

    The first column is the word and the last its tag. Columns are separated by tabs or, in lines without tabs, spaces.
    Lines with `-DOCSTART-` are skipped. A language prefix that every word has, as in `en:word`, is removed.

    Raises:
        RequestError: a line has no tag; the message names the file and line.
    """
    sentences: list[list[tuple[str, list[str]]]] = []  # the place and the columns of each word
    lines = raise_on_bad(local_file(path).lines())
    for blank, group in itertools.groupby(lines, key=lambda line: not line[1].strip(" \t\r\n")):
        words = [] if blank else [(f"{path}:{number}", _columns(line)) for number, line in group]
        words = [(place, columns) for place, columns in words if columns[0] != "-DOCSTART-"]
        for place, columns in words:
            if len(columns) < 2:
                raise RequestError(
                    f"{place}: '{columns[0]}' has no tag. A line has a word and, after a tab or a space, its tag."
                )
        sentences += [words] if words else []
    found = _LANGUAGE.match(sentences[0][0][1][0]) if sentences else None
    everywhere = found and all(columns[0].startswith(found[0]) for words in sentences for _, columns in words)
    language = found[0] if found and everywhere else ""
    for words in sentences:
        tokens = [columns[0].removeprefix(language) for _, columns in words]
        yield words[0][0], {"tokens": tokens, "ner_tags": [columns[-1] for _, columns in words]}


def _columns(line: str) -> list[str]:
    line = line.removesuffix("\n").removesuffix("\r")
    return line.rstrip("\t ").split("\t") if "\t" in line else [part for part in line.split(" ") if part]


WIKIANN = Task(
    name="wikiann",
    type="token-classification",
    title="WikiANN",
    source="https://aclanthology.org/P17-1178",
    folder="wikiann-en",
    files={split: (split, f"{split}.txt", f"{split}.conll") for split in ("train", "dev", "test")},
    rows=conll_rows,
    text_a="tokens",
    label="ner_tags",
    labels=("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"),
    digits=False,
    metrics=("f1", "precision", "recall", "accuracy"),
    sizes={"train": 20000, "dev": 10000, "test": 10000},
    hub=Hub("en", "tokens", None, {"train": "train", "dev": "validation", "test": "test"}, repo="unimelb-nlp/wikiann"),
)
