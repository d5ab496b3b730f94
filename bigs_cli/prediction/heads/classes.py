"""Texts and pairs of texts: the class of each with the probability of every class, or a score, such as similarity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.core.numbers import shortest_float
from bigs_cli.data.encode import Encoded
from bigs_cli.evaluation.forms.form import softmax
from bigs_cli.evaluation.forms.texts import TextsForm
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.heads import Outputs
from bigs_cli.prediction.heads.answerer import names_of, percent, predicting, shown
from bigs_cli.prediction.item import Item, Takes
from bigs_cli.prediction.settings import Settings
from bigs_cli.tasks.examples import Texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Classes:
    """An `Answerer` for sequence-classification heads; one label is a score."""

    takes: Takes = "texts"
    by_token = False

    def __init__(self, config: BiGSConfig, settings: Settings, tokenizer: Tokenizer) -> None:
        self._form = TextsForm(predicting("texts", config))
        self._labels = None if config.num_labels == 1 else names_of(config)
        if settings.task is not None:
            self.takes = "pair" if settings.task.second else "text"
        second = ("pair",) if self.takes == "pair" else ()
        told = ("score",) if self._labels is None else ("prediction", "probability", "others")
        self.headers = ("text", *second, *told)

    def encode(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Encoded:
        """Encode texts or pairs as evaluation does."""
        return self._form.encode(tokenizer, texts_of(items), length)

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the logits `[B, K]`."""
        return self._form.scores(outputs)

    def answers(self, items: Sequence[Item], inputs: Encoded, scores: Any) -> Iterator[dict[str, Any]]:
        """Yield `prediction`, a label or a score, and `scores`, the probability of each label."""
        if self._labels is None:
            yield from ({"prediction": shortest_float(score)} for score in scores[:, 0])
            return
        best = scores.argmax(-1).tolist()
        for place, row in zip(best, softmax(scores).round(6).tolist(), strict=True):
            yield {"prediction": self._labels[place], "scores": dict(zip(self._labels, row, strict=True))}

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield one row, the text of a pair that was given unasked behind the first."""
        second = shown(item.second or "")
        texts = (shown(item.text), second) if self.takes == "pair" else (f"{shown(item.text)} | {second}".rstrip(" |"),)
        if self._labels is None:
            yield *texts, f"{answer['prediction']:.3f}"
            return
        chosen = answer["prediction"]
        others = sorted(
            ((share, label) for label, share in answer["scores"].items() if label != chosen), key=lambda pair: -pair[0]
        )
        rest = ", ".join(f"{label} {percent(share)}" for share, label in others[:4])
        yield *texts, chosen, percent(answer["scores"][chosen]), rest


def texts_of(items: Sequence[Item]) -> Texts:
    """Return items as evaluation has texts, or pairs of texts.

    Raises:
        RequestError: some are pairs and some are not.
    """
    seconds = [item.second for item in items if item.second is not None]
    if seconds and len(seconds) < len(items):
        single = next(item for item in items if item.second is None)
        raise RequestError(f"{single.place} is a single text, and others are pairs. Ask for them one after the other.")
    return Texts([item.text for item in items], seconds or None, None, np.arange(len(items)))
