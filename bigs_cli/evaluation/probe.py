"""A masked language model of any origin on minimal pairs and agreement items: nothing is trained for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.core.errors import RequestError
from bigs_cli.data.tokenizer import special_ids
from bigs_cli.evaluation.agreement import choices
from bigs_cli.evaluation.pairs import Array, Pairs
from bigs_cli.evaluation.pll import (
    BATCH,
    MaskedWords,
    Places,
    Sentences,
    encode_sentences,
    every_token,
    padded_lengths,
    sum_up,
)
from bigs_cli.models.functional import make_apply
from bigs_cli.models.published import to_unstacked
from bigs_cli.recipe import FinetuneRecipe, load_recipe
from bigs_cli.recipe.schema import Compute

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Asked:
    """What is asked of the model to compare the pairs `kept` `[n]` of a file, padded to `lengths` `[m]`.

    Without `whole`, a pair's scores are the log-probabilities of the two candidates of one place; with it, the PLLs of
    its sentences: all the good ones stand before all the bad ones.
    """

    pairs: Pairs
    kept: Array
    sentences: Sentences
    places: Places
    lengths: Array
    whole: bool

    def __len__(self) -> int:
        """Return the number of places to be masked."""
        return len(self.places.sequence)


@dataclass(frozen=True)
class Compared:
    """Scores in nats, the good ones' then the bad ones', `[n, 2]`, of the pairs `kept` `[n]` of a file."""

    pairs: Pairs
    kept: Array
    scores: Array

    @property
    def right(self) -> Array:
        """Whether the good one scored higher, `[n]`: a tie is wrong, as in BLiMP's own figures."""
        return self.scores[:, 0] > self.scores[:, 1]

    @property
    def ties(self) -> int:
        """The number of pairs whose scores are the same, mostly because the tokenizer sees no difference."""
        return int((self.scores[:, 0] == self.scores[:, 1]).sum())

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield what the predictions file says of every pair."""
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


class ProbedModel:
    """A masked language model ready to be asked."""

    def __init__(
        self,
        opened: OpenModel,
        tokenizer: Tokenizer,
        batch_size: int | None = None,
        length: int | None = None,
        within_word: bool = False,
    ) -> None:
        """Consume `opened`. `length` pads all sentences to so many tokens; None: see `padded_lengths`.

        A run's own arithmetic (`compute` of its recipe) is used; log-softmax is in float32 always.

        Raises:
            RequestError: the model predicts no masked words, or has fewer positions than `length`.
        """
        config = opened.config
        if config.head != "masked-lm":
            raise RequestError(
                f"{opened.source} is a {config.head} model; sentences are scored by a masked-lm model, such as a "
                "pretraining run."
            )
        if length is not None and length > config.max_position_embeddings:
            raise RequestError(
                f"--length {length} is too long: the model takes at most {config.max_position_embeddings} tokens."
            )
        recipe = None if opened.run is None else load_recipe(str(opened.run.recipe_file))
        compute = Compute() if recipe is None or isinstance(recipe, FinetuneRecipe) else recipe.compute
        self._config, self._tokenizer, self._length = config, tokenizer, length
        self._params = to_unstacked(opened.flat)
        apply = make_apply(config, compute, unstacked=True)
        self._scorer = MaskedWords(apply, special_ids(tokenizer)["[MASK]"], batch_size or BATCH, within_word)

    @property
    def reads_padding(self) -> bool:
        """Whether scores depend on the length that sentences are padded to."""
        return not self._config.mask_padding

    def ask_sentences(self, pairs: Pairs) -> Asked:
        """Prepare to compare the PLLs of the sentences of pairs.

        Raises:
            RequestError: a sentence is longer than the model or `length` admits, or has no token.
        """
        sentences = encode_sentences(self._tokenizer, [*pairs.good, *pairs.bad])
        lengths = self._lengths(sentences, pairs.places * 2)
        return Asked(pairs, np.arange(len(pairs)), sentences, every_token(sentences), lengths, True)

    def ask_words(self, pairs: Pairs) -> Asked:
        """Prepare to compare the two forms of the word in which the sentences of pairs differ; see `choices`.

        Raises:
            RequestError: as `ask_sentences`.
        """
        items = choices(self._tokenizer, pairs)
        lengths = self._lengths(items.sentences, pairs.places)
        return Asked(pairs, items.kept, items.sentences, items.places, lengths, False)

    def compare(self, asked: Sequence[Asked], advance: Callable[[int], None] = lambda n: None) -> list[Compared]:
        """Return the scores of what was asked of each file; `advance` is told how many places are done.

        Files share batches, so that many short ones take no longer than a long one.
        """
        before = np.cumsum([0, *(len(one.sentences.ids) for one in asked)])
        together = Sentences(
            [ids for one in asked for ids in one.sentences.ids],
            [words for one in asked for words in one.sentences.words],
            np.concatenate([one.sentences.which + first for one, first in zip(asked, before, strict=False)]),
        )
        places = Places(
            np.concatenate([one.places.sequence + first for one, first in zip(asked, before, strict=False)]),
            np.concatenate([one.places.position for one in asked]),
            np.concatenate([one.places.candidates for one in asked]),
        )
        lengths = np.concatenate([one.lengths for one in asked])
        made = self._scorer.log_probabilities(self._params, together, places, lengths, advance)
        parts = np.split(made, np.cumsum([len(one) for one in asked])[:-1])
        compared = []
        for one, part in zip(asked, parts, strict=True):
            scores = sum_up(one.sentences, one.places, part).reshape(2, -1).T if one.whole else part
            compared.append(Compared(one.pairs, one.kept, scores))
        return compared

    def _lengths(self, sentences: Sentences, places: Sequence[str]) -> Array:
        most = self._length or self._config.max_position_embeddings
        for sequence, place in zip(sentences.which, places, strict=True):
            tokens = len(sentences.ids[sequence])
            if tokens > most:
                whose = "--length" if self._length else "the model"
                raise RequestError(f"{place} has a sentence of {tokens} tokens; {whose} admits {most}.")
            if tokens < 3:
                raise RequestError(f"{place} has a sentence without any token that the tokenizer knows of.")
        if self._length:
            return np.full(len(sentences.ids), self._length)
        return padded_lengths(sentences.lengths, self._config.max_position_embeddings, self.reads_padding)
