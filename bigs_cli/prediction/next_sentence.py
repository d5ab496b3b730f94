"""Next sentence: how likely it is that the second text of a pair follows the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax

from bigs_cli.core.wording import printable
from bigs_cli.data.encode import Encoded, encode_texts
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.heads import Outputs
from bigs_cli.prediction.settings import Settings
from bigs_cli.tasks.items import PAIR, Item
from bigs_cli.tasks.types.base import percent_text, softmax

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FOLLOWS = 0
"""The output for "follows", in BERT as in the original code, whose heads are made after BERT's."""


class NextSentence:
    """The `Pipeline` of next-sentence heads."""

    takes = PAIR
    by_token = False
    headers = ("text", "pair", "follows", "probability")

    def __init__(self, config: BiGSConfig, settings: Settings, tokenizer: Tokenizer) -> None:
        pass

    def encode_items(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Encoded:
        """Encode pairs."""
        return encode_texts(tokenizer, [item.text for item in items], [item.text_b or "" for item in items], length)

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the logits `[B, 2]`."""
        return outputs.logits

    def answer_items(self, items: Sequence[Item], inputs: Encoded, scores: Any, top: int) -> Iterator[dict[str, Any]]:
        """Yield `prediction`, whether the second text follows, and `probability`, that it does."""
        for share in softmax(scores)[:, FOLLOWS].round(6).tolist():
            yield {"prediction": share > 0.5, "probability": share}

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield one row."""
        follows = "yes" if answer["prediction"] else "no"
        yield printable(item.text, 60), printable(item.text_b or "", 60), follows, percent_text(answer["probability"])
