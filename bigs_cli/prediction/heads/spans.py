"""Questions about a text: the part of it that answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax

from bigs_cli.data.encode import Encoded
from bigs_cli.evaluation.forms.questions import QuestionsForm, find_answers
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.heads import Outputs
from bigs_cli.prediction.heads.answerer import percent, predicting, shown
from bigs_cli.prediction.item import Item, Takes
from bigs_cli.prediction.settings import Settings
from bigs_cli.tasks.examples import Questions

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Spans:
    """An `Answerer` for question-answering heads: over all windows of a long text, by the rules of evaluation.

    A model trained where a text may not answer (SQuAD 2.0) may answer "".
    """

    takes: Takes = "question"
    by_token = True
    headers = ("question", "answer", "probability", "score", "characters")

    def __init__(self, config: BiGSConfig, settings: Settings, tokenizer: Tokenizer) -> None:
        self._form = QuestionsForm(predicting("questions", config, settings.task))
        self._top = settings.top

    def encode(self, tokenizer: Tokenizer, items: Sequence[Item], length: int) -> Encoded:
        """Encode each question with all windows of its text."""
        questions = [item.text for item in items]
        examples = Questions([""] * len(items), questions, [item.second or "" for item in items], None)
        return self._form.encode(tokenizer, examples, length)

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return the scores `[B, L, 2]` of start and end."""
        return self._form.scores(outputs)

    def answers(self, items: Sequence[Item], inputs: Encoded, scores: Any) -> Iterator[dict[str, Any]]:
        """Yield `prediction`, its score, probability and characters in the text, and `nbest`: the same of the best.

        Probabilities are shares among the 20 best answers. No answer, "", has no characters.
        """
        for found in find_answers([item.second or "" for item in items], inputs, scores):
            told = self._form.told(found)
            best = told["nbest"]
            if told["prediction"]:
                chosen = {name: best[0][name] for name in ("score", "probability", "start", "end")}
            else:
                share = round(1 - sum(one["probability"] for one in best), 6) if best else None
                chosen = {"score": told.get("null_score"), "probability": share, "start": None, "end": None}
            yield {"prediction": told["prediction"], **chosen, **told, "nbest": best[: self._top]}

    def table_rows(self, item: Item, answer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield a row for each of the best answers."""
        first = shown(item.text)
        if not answer["prediction"]:
            yield first, "(no answer)", percent(answer["probability"]), "", ""
            first = ""
        for one in answer["nbest"]:
            where = f"{one['start']}–{one['end']}"
            yield first, shown(one["text"]), percent(one["probability"]), f"{one['score']:.2f}", where
            first = ""
