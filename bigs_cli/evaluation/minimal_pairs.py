"""Evaluation of a masked language model on minimal pairs and agreement items, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.core.errors import RequestError
from bigs_cli.data.tokenizer import special_ids
from bigs_cli.evaluation.agreement import masked_forms
from bigs_cli.evaluation.pairs import Array, Pairs
from bigs_cli.evaluation.pll import (
    BATCH,
    MaskedPositions,
    Sentences,
    encode_sentences,
    every_token,
    masked_copies,
    padded_lengths,
    pll_engine,
    pseudo_log_likelihoods,
)
from bigs_cli.inference import ignore
from bigs_cli.models.config import length_within
from bigs_cli.models.functional import make_apply
from bigs_cli.models.published import to_unstacked

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class EncodedPairs:
    """The encoded pairs `kept` `[n]` of a file; sequences are padded to `lengths` `[m]`.

    With `whole_sentences`, the scores of a pair are the PLLs of its sentences; all good sentences come before all bad
    ones. Without it, they are the log-probabilities of the two candidates of a masked position.
    """

    pairs: Pairs
    kept: Array
    sentences: Sentences
    positions: MaskedPositions
    lengths: Array
    whole_sentences: bool

    def __len__(self) -> int:
        """Return the number of masked positions."""
        return len(self.positions.sequence)


@dataclass(frozen=True)
class PairScores:
    """The scores `[n, 2]` in nats (good, bad) of the pairs `kept` `[n]` of a file."""

    pairs: Pairs
    kept: Array
    scores: Array

    @property
    def right(self) -> Array:
        """Whether the good sentence or form scored higher, `[n]`; as in BLiMP's own scores, a tie counts as wrong."""
        return self.scores[:, 0] > self.scores[:, 1]

    @property
    def ties(self) -> int:
        """The number of pairs with equal scores, mostly because their tokens are equal."""
        return int((self.scores[:, 0] == self.scores[:, 1]).sum())

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield one line of the predictions file per pair."""
        for i, (good, bad), right in zip(self.kept.tolist(), self.scores.tolist(), self.right.tolist(), strict=True):
            yield {
                "file": self.pairs.name,
                "id": i,
                **{level: names[i] for level, names in self.pairs.groups.items()},
                "good": self.pairs.good[i],
                "bad": self.pairs.bad[i],
                "scores": {"good": good, "bad": bad},
                "right": right,
            }


class PairModel:
    """A masked language model and its tokenizer, to score pairs."""

    def __init__(
        self,
        opened: OpenModel,
        tokenizer: Tokenizer,
        batch_size: int | None = None,
        length: int | None = None,
        within_word: bool = False,
    ) -> None:
        """Take the parameters of `opened`, which loses its arrays to save memory; do not use it afterwards.

        All sentences are padded to `length` tokens; None: see `padded_lengths`. A run is evaluated with the `compute`
        settings of its recipe; log-softmax is always in float32.

        Raises:
            RequestError: the model is not a masked language model, or has fewer positions than `length`.
        """
        config = opened.config
        if config.head != "masked-lm":
            raise RequestError(
                f"{opened.source} is a {config.head} model; only a masked-lm model, such as a pretraining run, can "
                "score sentences."
            )
        length_within(config, length)
        self._config, self._tokenizer, self._length = config, tokenizer, length
        self._params, self._within_word = to_unstacked(opened.flat), within_word
        self._mask_id = special_ids(tokenizer)["[MASK]"]
        self._engine = pll_engine(make_apply(config, opened.compute, unstacked=True), batch_size or BATCH)

    @property
    def reads_padding(self) -> bool:
        """Whether scores depend on the padded length."""
        return not self._config.ignores_padding

    def encode_pairs(self, pairs: Pairs) -> EncodedPairs:
        """Encode the sentences of pairs, to compare their PLLs.

        Raises:
            RequestError: a sentence is longer than the model's positions or `length`, or has no tokens.
        """
        sentences = encode_sentences(self._tokenizer, [*pairs.good, *pairs.bad])
        lengths = self._lengths(sentences, pairs.places * 2)
        return EncodedPairs(pairs, np.arange(len(pairs)), sentences, every_token(sentences), lengths, True)

    def encode_forms(self, pairs: Pairs) -> EncodedPairs:
        """Encode the two forms of the word that differs between the sentences of each pair; see `masked_forms`.

        Raises:
            RequestError: as `encode_pairs`.
        """
        items = masked_forms(self._tokenizer, pairs)
        lengths = self._lengths(items.sentences, pairs.places)
        return EncodedPairs(pairs, items.kept, items.sentences, items.positions, lengths, False)

    def compare(self, files: Sequence[EncodedPairs], advance: Callable[[int], None] = ignore) -> list[PairScores]:
        """Return the scores of the pairs of each file.

        `advance` is called with the number of positions finished since the last call.
        """
        results = []
        for file in files:
            copies = masked_copies(file.sentences, file.positions, file.lengths, self._mask_id, self._within_word)
            scores = self._engine(self._params, copies, advance)
            if file.whole_sentences:
                scores = pseudo_log_likelihoods(file.sentences, file.positions, scores).reshape(2, -1).T
            results.append(PairScores(file.pairs, file.kept, scores))
        return results

    def _lengths(self, sentences: Sentences, places: Sequence[str]) -> Array:
        maximum = self._length or self._config.max_position_embeddings
        for sequence, place in zip(sentences.sequence_of, places, strict=True):
            tokens = len(sentences.ids[sequence])
            if tokens > maximum:
                limit = "--length" if self._length else "the model"
                raise RequestError(f"{place} has a sentence of {tokens} tokens; {limit} allows {maximum}.")
            if tokens < 3:
                raise RequestError(f"{place} has a sentence without tokens.")
        if self._length:
            return np.full(len(sentences.ids), self._length)
        return padded_lengths(sentences.lengths, self._config.max_position_embeddings, self.reads_padding)
