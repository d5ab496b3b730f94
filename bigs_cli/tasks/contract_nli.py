"""ContractNLI: whether a statement follows from a contract, contradicts it, or is not mentioned in it.

Koreeda and Manning 2021 (https://arxiv.org/abs/2110.01799), in the layout of SCROLLS
(https://www.scrolls-benchmark.com): an object per line, whose `input` is the statement, a blank line and the contract,
and whose `output` is the label.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bigs_cli.core.errors import RequestError
from bigs_cli.data.files import local_file
from bigs_cli.data.rows import file_rows, raise_on_bad
from bigs_cli.tasks.task import Task

_BLANK_LINE = re.compile(r"\r?\n[ \t]*\r?\n")


def contract_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the pairs in a file of JSON lines: the text before the first blank line of `input`, and the text after it.

    Raises:
        RequestError: a line is not such an object; the message names the file and line.
    """
    for place, row in raise_on_bad(file_rows(local_file(path))):
        halves = _BLANK_LINE.split(str(row.get("input")), maxsplit=1)
        if len(halves) < 2:
            raise RequestError(f"{place}: 'input' has no blank line between the statement and the contract.")
        yield place, {"hypothesis": halves[0], "document": halves[1], "output": row.get("output")}


CONTRACT_NLI = Task(
    name="contract-nli",
    title="ContractNLI",
    source="https://www.scrolls-benchmark.com",
    folder="contract_nli",
    files={"train": ("train.jsonl",), "dev": ("validation.jsonl", "dev.jsonl"), "test": ("test.jsonl",)},
    rows=contract_rows,
    text_a="hypothesis",
    text_b="document",
    label="output",
    labels=("Entailment", "Contradiction", "Not mentioned"),
    digits=False,
    metrics=("accuracy",),
    sizes={"train": 7191, "dev": 1037, "test": 2091},
)
