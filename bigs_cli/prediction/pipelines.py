"""The pipeline for each head: its task type or, for heads without a task, fill-mask or next sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bigs_cli.core.errors import RequestError
from bigs_cli.core.wording import printable
from bigs_cli.data.encode import Encoded, encode_texts
from bigs_cli.models.config import BiGSConfig
from bigs_cli.prediction.fill_mask import FillMask
from bigs_cli.prediction.settings import Settings
from bigs_cli.tasks.items import PAIR, Item
from bigs_cli.tasks.types import type_of_model
from bigs_cli.tasks.types.base import AnsweringType, Pipeline, percent_text, softmax

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FOLLOWS = 0
"""The index of the output for "follows", in BERT and in the original code, whose heads follow BERT's."""


class NextSentence(Pipeline):
    """The `Pipeline` of next-sentence heads: the probability that the second text of a pair follows the first."""

    takes = PAIR
    headers = ("text", "pair", "follows", "probability")

    def encode_items(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Encoded:
        """Encode pairs."""
        return encode_texts(tokenizer, [item.text for item in items], [item.text_b or "" for item in items], length)

    def answer_items(self, items: Sequence[Item], inputs: Encoded, scores: Any, top: int) -> Iterator[dict[str, Any]]:
        """Yield `prediction`, whether the second text follows the first, and the `probability` that it does."""
        for probability in softmax(scores)[:, FOLLOWS].round(6).tolist():
            yield {"prediction": probability > 0.5, "probability": probability}

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield one row."""
        follows = "yes" if answer["prediction"] else "no"
        yield printable(item.text, 60), printable(item.text_b or "", 60), follows, percent_text(answer["probability"])


def pipeline_for(config: BiGSConfig, settings: Settings, tokenizer: Tokenizer) -> Pipeline:
    """Return the pipeline for the head of a model.

    Raises:
        RequestError: the model is a bare encoder, which only computes embeddings.
    """
    if (kind := type_of_model(config)) is not None and issubclass(kind, AnsweringType):
        return kind.for_model(config, settings.task)
    if config.head in ("masked-lm", "pretraining"):
        return FillMask(config, settings, tokenizer)
    if config.head == "next-sentence":
        return NextSentence()
    raise RequestError(
        "This model is a bare encoder: it has no predictions, only embeddings (`--embed`, or `.embed()`)."
    )
