"""Next sentence: how likely it is that the second text of a pair follows the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax

from bigs_cli.data.encode import Encoded, encode_texts
from bigs_cli.evaluation.forms.form import softmax
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.heads import Outputs
from bigs_cli.prediction.heads.answerer import percent, shown
from bigs_cli.prediction.item import Item, Takes
from bigs_cli.prediction.settings import Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FOLLOWS = 0
"""The output that says so, in BERT as in the original code, whose heads are made after BERT's."""


class NextSentence:
    """An `Answerer` for next-sentence heads."""

    takes: Takes = "pair"
    by_token = False
    headers = ("text", "pair", "follows", "probability")

    def __init__(self, config: BiGSConfig, settings: Settings, tokenizer: Tokenizer) -> None:
        pass

    def encode(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Encoded:
        """Encode pairs."""
        return encode_texts(tokenizer, [item.text for item in items], [item.second or "" for item in items], length)

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the logits `[B, 2]`."""
        return outputs.logits

    def answers(self, items: Sequence[Item], inputs: Encoded, scores: Any) -> Iterator[dict[str, Any]]:
        """Yield `prediction`, whether the second text follows, and `probability`, that it does."""
        for share in softmax(scores)[:, FOLLOWS].round(6).tolist():
            yield {"prediction": share > 0.5, "probability": share}

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield one row."""
        said = "yes" if answer["prediction"] else "no"
        yield shown(item.text), shown(item.second or ""), said, percent(answer["probability"])
