"""`Predictor`: a model with its tokenizer and settings, for predictions and embeddings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bigs_cli.data.encode import Encoded, check_token_types, encode_texts
from bigs_cli.inference import Batch, Engine, forward, ignore
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.encoder import masked_mean
from bigs_cli.models.functional import Apply, Parameters, make_apply, memoize
from bigs_cli.prediction.pipelines import pipeline_for
from bigs_cli.prediction.settings import Settings
from bigs_cli.tasks.items import Item
from bigs_cli.tasks.types.base import Pipeline
from bigs_cli.tasks.types.sequence_classification import texts_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]


class Predictor:
    """A model, its tokenizer and its settings; compiled once per batch shape.

    Attributes:
        settings: the settings.
        cut: the number of rows truncated to `settings.length` tokens so far.
    """

    def __init__(self, config: BiGSConfig, params: Parameters, tokenizer: Tokenizer, settings: Settings) -> None:
        """`params` have unstacked layers (`unstack_layers`)."""
        self._config, self.params, self._tokenizer, self.settings = config, params, tokenizer, settings
        self._apply = make_apply(config, settings.compute, unstacked=True)
        self.cut = 0

    @functools.cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline for the model's head (RequestError for a bare encoder)."""
        return pipeline_for(self._config, self.settings, self._tokenizer)

    @functools.cached_property
    def engine(self) -> Engine:
        """The engine of `answers`."""
        pipeline = self.pipeline
        return self._engine(
            lambda params, batch: pipeline.scores(forward(self._apply, params, batch)), pipeline.by_token
        )

    @functools.cached_property
    def _embedder(self) -> Engine:
        return self._engine(_mean_hidden_state(self._apply))

    def answers(
        self, items: Iterable[Item], advance: Callable[[int], None] = ignore
    ) -> Iterator[list[tuple[Item, dict[str, Any]]]]:
        """Yield lists of (item, answer), one per window.

        `advance` is called with the number of rows finished since the last call.

        Raises:
            RequestError: an item is not valid for the model.
            BigsError: the model produced NaN or Inf.
        """
        for window, inputs, scores in self.engine.stream(self.params, items, self.encode, advance):
            answers = self.pipeline.answer_items(window, inputs, scores, self.settings.top)
            yield list(zip(window, answers, strict=True))

    def embeddings(
        self, items: Iterable[Item], advance: Callable[[int], None] = ignore
    ) -> Iterator[tuple[list[Item], Array]]:
        """Yield (items, vectors `[n, H]` float32), one per window: the means of the last hidden states.

        A mean is over the real tokens of a text or pair, including [CLS] and [SEP].

        Raises:
            RequestError, BigsError: as `answers`.
        """
        for window, _, vectors in self._embedder.stream(self.params, items, self._encode_texts, advance):
            yield window, vectors

    def encode(self, items: list[Item]) -> Encoded:
        """Encode items as model inputs, and count the truncated rows."""
        return self._check(self.pipeline.encode_items(self._tokenizer, items, self.settings.length))

    def _encode_texts(self, items: list[Item]) -> Encoded:
        texts = texts_of(items)
        return self._check(encode_texts(self._tokenizer, texts.text_a, texts.text_b, self.settings.length))

    def _check(self, inputs: Encoded) -> Encoded:
        check_token_types(inputs, self._config)
        self.cut += inputs.cut
        return inputs

    def _engine(self, function: Callable[[Parameters, Batch], Any], by_token: bool = False) -> Engine:
        return Engine(function, self.settings.batch_size, self.settings.trim, by_token)


@memoize
def _mean_hidden_state(apply: Apply) -> Callable[[Parameters, Batch], jax.Array]:
    def mean(params: Parameters, batch: Batch) -> jax.Array:
        return masked_mean(forward(apply, params, batch).hidden_states[-1], batch["attention_mask"])

    return mean
