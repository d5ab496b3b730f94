"""Training a vocabulary on the text to be tokenized."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bigs_cli.data.documents import BadRecord
from bigs_cli.data.sources import find_parts, read_parts, require_text
from bigs_cli.data.staging import Request
from bigs_cli.data.tokenizer import train_tokenizer
from bigs_cli.data.validation import ValidationRule

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SAMPLE_CHARACTERS = 50_000_000
"""The maximum size of the training text, which is kept in memory and taken in equal parts from all sources."""


def train_on(request: Request, validation: ValidationRule, size: int, skip_bad: bool = False) -> Tokenizer:
    """Return a vocabulary of `size` entries trained on the text of `request` that is not held out.

    Raises:
        RequestError: there is no text, it cannot be read, or `size` is too small for its characters.
    """
    return train_tokenizer(_sample(request, validation, skip_bad), size)


def _sample(request: Request, validation: ValidationRule, skip_bad: bool) -> Iterator[str]:
    limit = request.limit_documents
    for source in dict.fromkeys(request.sources):
        left, taken = SAMPLE_CHARACTERS // len(request.sources), 0
        for _, _, record in read_parts(find_parts([source], request.how)):
            if isinstance(record, BadRecord) and skip_bad:
                continue
            document = require_text(record)
            taken += 1
            if left <= 0 or (limit is not None and taken > limit):
                break
            kept = "".join(validation.split(document)[0])
            if kept.strip():
                yield kept[:left]
                left -= len(kept)
