"""What answers for each head: its task type, or, for heads without a task, a pipeline of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bigs_cli.core.errors import RequestError
from bigs_cli.models.config import BiGSConfig, Head
from bigs_cli.prediction.fill_mask import FillMask
from bigs_cli.prediction.next_sentence import NextSentence
from bigs_cli.prediction.settings import Settings
from bigs_cli.tasks.types import TASK_TYPES
from bigs_cli.tasks.types.base import Pipeline

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WITHOUT_TASK: dict[Head, Callable[[BiGSConfig, Settings, Tokenizer], Pipeline]] = {
    "masked-lm": FillMask,
    "pretraining": FillMask,
    "next-sentence": NextSentence,
}


def pipeline_for(config: BiGSConfig, settings: Settings, tokenizer: Tokenizer) -> Pipeline:
    """Return what answers for the head of a model.

    Raises:
        RequestError: it is a bare encoder, which has embeddings only.
    """
    if config.head in TASK_TYPES:
        return TASK_TYPES[config.head].for_model(config, settings.task)
    if config.head in WITHOUT_TASK:
        return WITHOUT_TASK[config.head](config, settings, tokenizer)
    raise RequestError(
        "This model is a bare encoder: it answers nothing, but gives embeddings (`--embed`, or `.embed()`)."
    )
