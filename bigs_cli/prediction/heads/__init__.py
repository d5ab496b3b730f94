"""What each head answers: one class a head, in a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bigs_cli.models.config import BiGSConfig, Head
from bigs_cli.prediction.heads.answerer import Answerer
from bigs_cli.prediction.heads.classes import Classes
from bigs_cli.prediction.heads.endings import Endings
from bigs_cli.prediction.heads.entities import Entities
from bigs_cli.prediction.heads.fill_mask import FillMask
from bigs_cli.prediction.heads.next_sentence import NextSentence
from bigs_cli.prediction.heads.spans import Spans
from bigs_cli.prediction.settings import Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["ANSWERERS", "Answerer"]

ANSWERERS: dict[Head, Callable[[BiGSConfig, Settings, Tokenizer], Answerer]] = {
    "masked-lm": FillMask,
    "pretraining": FillMask,
    "sequence-classification": Classes,
    "next-sentence": NextSentence,
    "token-classification": Entities,
    "question-answering": Spans,
    "multiple-choice": Endings,
}
"""Every head but the bare encoder's, which answers nothing: it has embeddings only."""
