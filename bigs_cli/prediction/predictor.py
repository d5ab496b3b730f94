"""A model that is ready to answer texts (`Predictor`)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.data.encode import Encoded, check_token_types, encode_texts
from bigs_cli.inference import Batch, Engine, forward, ignore
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import Parameters, make_apply
from bigs_cli.prediction.pipelines import pipeline_for
from bigs_cli.prediction.settings import Settings
from bigs_cli.tasks.items import Item
from bigs_cli.tasks.types.base import Pipeline
from bigs_cli.tasks.types.sequence_classification import texts_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]


class Predictor:
    """One model and its settings; compiled once for each shape of batch.

    Attributes:
        settings: how texts are read.
        cut: how many rows so far had more tokens than `settings.length`, which were not read.
    """

    def __init__(self, config: BiGSConfig, params: Parameters, tokenizer: Tokenizer, settings: Settings) -> None:
        """`params` have unstacked layers (`unstack_layers`)."""
        self._config, self.params, self._tokenizer, self.settings = config, params, tokenizer, settings
        self._apply = make_apply(config, settings.compute, unstacked=True)
        self.cut = 0

    @functools.cached_property
    def pipeline(self) -> Pipeline:
        """What answers for the model's head (RequestError for a bare encoder, which answers nothing)."""
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
        def pooled(params: Parameters, batch: Batch) -> jax.Array:
            last = forward(self._apply, params, batch).hidden_states[-1]
            weight = jnp.asarray(batch["attention_mask"])[..., None].astype(jnp.float32)
            return (last.astype(jnp.float32) * weight).sum(1) / jnp.maximum(weight.sum(1), 1)

        return self._engine(pooled)

    def answers(
        self, items: Iterable[Item], advance: Callable[[int], None] = ignore
    ) -> Iterator[list[tuple[Item, dict[str, Any]]]]:
        """Yield (item, answer), a window of them at a time; `advance` is called with the number of rows done.

        Raises:
            RequestError: an item is not what the model takes.
            BigsError: the model produces NaN or Inf.
        """
        for window, inputs, scores in self.engine.stream(self.params, items, self.encode, advance):
            answers = self.pipeline.answer_items(window, inputs, scores, self.settings.top)
            yield list(zip(window, answers, strict=True))

    def embeddings(
        self, items: Iterable[Item], advance: Callable[[int], None] = ignore
    ) -> Iterator[tuple[list[Item], Array]]:
        """Yield (items, vectors `[n, H]` float32), a window at a time: the mean of the last hidden state.

        The mean is over the real tokens of a text or pair, [CLS] and [SEP] among them.

        Raises:
            RequestError, BigsError: as `answers`.
        """
        for window, _, vectors in self._embedder.stream(self.params, items, self._encode_texts, advance):
            yield window, vectors

    def encode(self, items: list[Item]) -> Encoded:
        """Return items as the model's inputs, and count those that are truncated."""
        return self._checked(self.pipeline.encode_items(self._tokenizer, items, self.settings.length))

    def _encode_texts(self, items: list[Item]) -> Encoded:
        texts = texts_of(items)
        return self._checked(encode_texts(self._tokenizer, texts.text_a, texts.text_b, self.settings.length))

    def _checked(self, inputs: Encoded) -> Encoded:
        check_token_types(inputs, self._config)
        self.cut += inputs.cut
        return inputs

    def _engine(self, function: Callable[[Parameters, Batch], Any], by_token: bool = False) -> Engine:
        return Engine(function, self.settings.batch_size, self.settings.trim, by_token)
