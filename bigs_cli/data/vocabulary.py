"""Training a vocabulary on the text it is for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bigs_cli.data.build import is_heldout
from bigs_cli.data.corpus import find_parts, read_parts, sound
from bigs_cli.data.documents import Bad
from bigs_cli.data.staging import Request
from bigs_cli.data.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SAMPLE_CHARACTERS = 50_000_000
"""As much text as a vocabulary is trained on, in equal parts of all sources; it is held in memory."""


def train_on(request: Request, size: int, skip_bad: bool = False) -> Tokenizer:
    """Return a vocabulary of `size` entries trained on what `request` reads, held-out documents left out.

    Raises:
        RequestError: there is no text, it cannot be read, or `size` is too small for its characters.
    """
    return train_tokenizer(_sample(request, skip_bad), size)


def _sample(request: Request, skip_bad: bool) -> Iterator[str]:
    limit = request.limit_documents
    for source in dict.fromkeys(request.sources):
        left, taken = SAMPLE_CHARACTERS // len(request.sources), 0
        for _, _, record in read_parts(find_parts([source], request.how)):
            if isinstance(record, Bad) and skip_bad:
                continue
            document = sound(record)
            taken += 1
            if left <= 0 or (limit is not None and taken > limit):
                break
            if not is_heldout(document, request.heldout):
                yield document[:left]
                left -= len(document)
