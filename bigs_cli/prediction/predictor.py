"""A model ready to be asked (`Predictor`): a window of texts at a time, in batches of few shapes, answers in order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.core.error_messages import nonfinite_error
from bigs_cli.core.errors import RequestError
from bigs_cli.data.encode import Encoded, check_token_types, encode_texts
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import Parameters, make_apply
from bigs_cli.models.heads import Outputs
from bigs_cli.prediction.batches import Array, Batch, batches, rows_at_once, run
from bigs_cli.prediction.heads import ANSWERERS, Answerer
from bigs_cli.prediction.heads.classes import texts_of
from bigs_cli.prediction.item import Item
from bigs_cli.prediction.settings import Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WINDOW = 4096
"""Texts that are in memory, and share batches, at a time."""
CHARACTERS = 1 << 22
"""No more of them than have so many characters in all: tokens take some hundred bytes each while they are made."""


class Predictor:
    """One model and how it is asked; compiled once for each shape of batch.

    Attributes:
        settings: how the model is asked.
        cut: how many rows asked so far had more tokens than `settings.length`, which were not read.
    """

    def __init__(self, config: BiGSConfig, params: Parameters, tokenizer: Tokenizer, settings: Settings) -> None:
        """`params` have unstacked layers (`unstack_layers`)."""
        self._config, self.params, self._tokenizer, self.settings = config, params, tokenizer, settings
        self._apply = make_apply(config, settings.compute, unstacked=True)
        self.cut = 0

    @functools.cached_property
    def answerer(self) -> Answerer:
        """What answers for the model's head.

        Raises:
            RequestError: it is a bare encoder, which answers nothing.
        """
        make = ANSWERERS.get(self._config.head)
        if make is None:
            raise RequestError(
                "This model is a bare encoder: it answers nothing, but gives embeddings (`--embed`, or `.embed()`)."
            )
        return make(self._config, self.settings, self._tokenizer)

    def answers(
        self, items: Iterable[Item], advance: Callable[[int], None] = lambda n: None
    ) -> Iterator[list[tuple[Item, dict[str, Any]]]]:
        """Yield what is answered to items, a window of them at a time; `advance` is told how many rows are done.

        Raises:
            RequestError: an item is not what the model takes.
            BigsError: the model gives NaN or infinities.
        """
        answerer = self.answerer
        for window, inputs, made in self.windows(items, answerer.encode):
            scores = run(functools.partial(self.scores, self.params), inputs, made, answerer.by_token, advance)
            _check_numbers(scores)
            yield list(zip(window, answerer.answers(window, inputs, scores), strict=True))

    def embeddings(
        self, items: Iterable[Item], advance: Callable[[int], None] = lambda n: None
    ) -> Iterator[tuple[list[Item], Array]]:
        """Yield (items, vectors `[n, H]` float32), a window at a time: the mean of the last hidden state.

        The mean is over the real tokens of a text or pair, [CLS] and [SEP] among them.

        Raises:
            RequestError, BigsError: as `answers`.
        """
        for window, inputs, made in self.windows(items, _encode_texts):
            vectors = run(functools.partial(self._pooled, self.params), inputs, made, False, advance)
            _check_numbers(vectors)
            yield window, vectors

    def windows(
        self, items: Iterable[Item], encode: Callable[[Tokenizer, list[Item], int], Encoded]
    ) -> Iterator[tuple[list[Item], Encoded, Iterator[tuple[Array, Batch]]]]:
        """Yield items, the same as the model reads them, and the batches of these."""
        size = 0
        for window in windows_of(items):
            inputs = encode(self._tokenizer, window, self.settings.length)
            check_token_types(inputs, self._config)
            self.cut += inputs.cut
            # All batches of a stream have one size, smaller where all of it is but a few rows.
            size = self.settings.batch_size if size else rows_at_once(len(inputs), self.settings.batch_size)
            groups: Array | None = getattr(inputs, "groups", None)
            yield window, inputs, batches(inputs, size, self.settings.trim, groups)

    @functools.cached_property
    def scores(self) -> Callable[[Parameters, Batch], Any]:
        """The compiled forward pass of a batch, with what the answerer keeps of it."""
        return jax.jit(lambda params, batch: self.answerer.scores(self._outputs(params, batch)))

    @functools.cached_property
    def _pooled(self) -> Callable[[Parameters, Batch], jax.Array]:
        def pooled(params: Parameters, batch: Batch) -> jax.Array:
            last = self._outputs(params, batch).hidden_states[-1]
            weight = jnp.asarray(batch["attention_mask"])[..., None].astype(jnp.float32)
            return (last.astype(jnp.float32) * weight).sum(1) / jnp.maximum(weight.sum(1), 1)

        return jax.jit(pooled)

    def _outputs(self, params: Parameters, batch: Batch) -> Outputs:
        named = {"positions": batch["positions"]} if "positions" in batch else {}
        return self._apply(params, batch["input_ids"], batch["attention_mask"], batch["token_type_ids"], **named)


def windows_of(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield items in lists of at most `WINDOW` of them and about `CHARACTERS` characters."""
    held: list[Item] = []
    characters = 0
    for item in items:
        held.append(item)
        characters += len(item)
        if len(held) == WINDOW or characters >= CHARACTERS:
            yield held
            held, characters = [], 0
    if held:
        yield held


def _check_numbers(given: Any) -> None:
    """Refuse what a model with spoilt weights gives (BigsError)."""
    if not all(np.isfinite(one).all() for one in (given if isinstance(given, tuple) else (given,))):
        raise nonfinite_error("The model")


def _encode_texts(tokenizer: Tokenizer, items: list[Item], length: int) -> Encoded:
    texts = texts_of(items)
    return encode_texts(tokenizer, texts.first, texts.second, length)
