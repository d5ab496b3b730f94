"""Training a vocabulary on the text to be tokenized."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bigs_cli.data.build import copies
from bigs_cli.data.documents import BadRecord
from bigs_cli.data.sources import find_parts, read_parts, require_text
from bigs_cli.data.staging import Request
from bigs_cli.data.tokenizer import train_tokenizer
from bigs_cli.data.validation import ValidationRule, text_digest

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
    limit, taken = request.limit_documents, 0
    for source, weight in zip(request.sources, request.weights, strict=True):
        left = SAMPLE_CHARACTERS // len(request.sources)
        for _, _, record in read_parts(find_parts([source], request.how)):
            if left <= 0 and limit is None:
                break
            if isinstance(record, BadRecord) and skip_bad:
                continue
            document = require_text(record)
            if limit is not None and taken >= limit:
                return
            if not copies(text_digest(document.encode("utf-8", "replace").decode()), weight):
                continue
            taken += 1
            kept = "".join(validation.split(document)[0])
            if kept.strip() and left > 0:
                yield kept[:left]
                left -= len(kept)
