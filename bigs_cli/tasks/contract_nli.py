"""ContractNLI: whether a statement follows from a contract, contradicts it, or is not mentioned in it.

Koreeda and Manning 2021 (https://arxiv.org/abs/2110.01799), in the layout of SCROLLS (https://www.scrolls-benchmark.com):
an object a line, whose `input` is the statement, a blank line and the contract, and whose `output` is the label.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bigs_cli.core.errors import RequestError
from bigs_cli.tasks.jsonl import text_in, texts_of
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types.sequence_classification import TextExamples

_BLANK_LINE = re.compile(r"\r?\n[ \t]*\r?\n")


def read_contracts(task: Task, path: Path) -> TextExamples:
    """Return the pairs in a file of JSON lines: what stands before the first blank line of `input`, and after it.

    Raises:
        RequestError: with file and line: a line is no such object, or its label is none of the task's.
    """

    def parts(row: dict[str, Any], where: str) -> tuple[str, str]:
        halves = _BLANK_LINE.split(text_in(row, "input", where), maxsplit=1)
        if len(halves) < 2:
            raise RequestError(f"{where}: no blank line in 'input' parts the statement from the contract.")
        return halves[0], halves[1]

    return texts_of(task, path, "output", parts)


CONTRACT_NLI = Task(
    name="contract-nli",
    title="ContractNLI",
    source="https://www.scrolls-benchmark.com",
    folder="contract_nli",
    files={"train": ("train.jsonl",), "dev": ("validation.jsonl", "dev.jsonl"), "test": ("test.jsonl",)},
    read=read_contracts,
    text_a="hypothesis",
    text_b="document",
    label="output",
    labels=("Entailment", "Contradiction", "Not mentioned"),
    digits=False,
    metrics=("accuracy",),
    sizes={"train": 7191, "dev": 1037, "test": 2091},
)
