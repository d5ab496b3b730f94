"""Multiple choice: which of several endings goes on from a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bigs_cli.data.encode import Encoded
from bigs_cli.evaluation.forms.choices import ChoicesForm
from bigs_cli.evaluation.forms.form import softmax
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.heads import Outputs
from bigs_cli.prediction.heads.answerer import percent, predicting, shown
from bigs_cli.prediction.item import Item, Takes
from bigs_cli.prediction.settings import Settings
from bigs_cli.tasks.examples import Choices

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Endings:
    """An `Answerer` for multiple-choice heads: an ending is a row, so that texts may have any number of them."""

    takes: Takes = "endings"
    by_token = False
    headers = ("text", "ending", "probability")

    def __init__(self, config: BiGSConfig, settings: Settings, tokenizer: Tokenizer) -> None:
        self._form = ChoicesForm(predicting("choices", config, endings=("ending",)))

    def encode(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Encoded:
        """Encode every text with each of its endings, as evaluation does."""
        first = [item.text for item in items for _ in item.endings]
        return self._form.encode(tokenizer, Choices(first, [[e] for item in items for e in item.endings], None), length)

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the logits `[B]`."""
        return self._form.scores(outputs)

    def answers(self, items: Sequence[Item], inputs: Encoded, scores: Any) -> Iterator[dict[str, Any]]:
        """Yield `prediction`, the place of the likeliest ending from 0, its text as `ending`, and all `scores`."""
        parts = np.split(scores, np.cumsum([len(item.endings) for item in items])[:-1])
        for item, part in zip(items, parts, strict=True):
            best = int(part.argmax())
            yield {"prediction": best, "ending": item.endings[best], "scores": softmax(part).round(6).tolist()}

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield a row for each ending, the likeliest first."""
        first = shown(item.text)
        for share, ending in sorted(zip(answer["scores"], item.endings, strict=True), key=lambda pair: -pair[0]):
            yield first, shown(ending), percent(share)
            first = ""
