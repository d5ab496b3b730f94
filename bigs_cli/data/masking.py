"""Choosing the tokens that a masked language model predicts, inside the jitted step (Devlin et al. 2018, §3.1).

The masks of a row depend only on the seed, the step and the row's place in the global batch: they are the same on one
device and on many. Rows of a corpus with static masks are masked already.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.corpus import Corpus
from bigs_cli.data.tokenizer import MASK, PAD
from bigs_cli.recipe.schema import Masking

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTE_LEVEL_SPACE = "Ġ"  # what a space becomes in byte-level BPE, since GPT-2


@dataclass(frozen=True)
class MaskIds:
    """What masking needs to know of the vocabulary. Hashable, as it is a static argument."""

    pad_id: int
    mask_id: int
    vocab_size: int
    special_ids: tuple[int, ...]
    """Ids that are never predicted and never replace another token."""
    continues: bytes = field(default=b"", repr=False)
    """For each id, whether it continues the word of the token before; empty unless whole words are masked."""

    @classmethod
    def of(cls, corpus: Corpus, masking: Masking, vocab_size: int) -> MaskIds:
        """Return what `masking` needs to know of this corpus; `vocab_size` is the model's, which may be larger.

        Raises:
            RequestError: whole words are wanted, and the tokenizer does not show where they begin.
        """
        special = corpus.manifest.special_ids
        continues = word_continuations(corpus.tokenizer(), vocab_size) if masking.whole_word else b""
        return cls(special[PAD], special[MASK], vocab_size, tuple(sorted(set(special.values()))), continues)


def mask_ids(corpus: Corpus, masking: Masking, vocab_size: int) -> MaskIds | None:
    """Return what `masked_batch` masks the rows of `corpus` with: None if they have static masks.

    Raises:
        RequestError: as `MaskIds.of` does.
    """
    return None if corpus.static_masks else MaskIds.of(corpus, masking, vocab_size)


def word_continuations(tokenizer: Tokenizer, size: int) -> bytes:
    """Return for each of `size` ids 1 if the token continues the word of the token before it, else 0.

    In WordPiece vocabularies such tokens have a prefix ("##"). In byte-level BPE and SentencePiece they are the tokens
    without a mark for the space before them ("Ġ", "▁"), as in fairseq's `mask_whole_words`: punctuation belongs to the
    word before, and text without spaces is a single word. Added tokens begin words.

    Raises:
        RequestError: the vocabulary is of another kind.
    """
    form = json.loads(tokenizer.to_str())
    prefix = form["model"].get("continuing_subword_prefix")
    marks = tuple(_word_marks(form["pre_tokenizer"])) or tuple(_word_marks(form["decoder"]))
    if not prefix and not marks:
        raise RequestError(
            "masking.whole_word needs a vocabulary that shows where words begin: WordPiece with '##', byte-level BPE "
            "or SentencePiece. The tokenizer of these shards is none of these: set masking.whole_word to false."
        )
    added = tokenizer.get_added_tokens_decoder()
    continues = bytearray(size)
    for token, token_id in tokenizer.get_vocab().items():
        if token_id not in added:
            continues[token_id] = token.startswith(prefix) if prefix else not token.startswith(marks)
    return bytes(continues)


def _word_marks(part: Any) -> Iterator[str]:
    """Yield the marks of a word's beginning in a pre-tokenizer or decoder of a tokenizer.json."""
    if part is None:
        return
    if part["type"] == "ByteLevel":
        yield _BYTE_LEVEL_SPACE
    elif part["type"] == "Metaspace":
        yield part["replacement"]
    for inner in (*part.get("pretokenizers", ()), *part.get("decoders", ())):
        yield from _word_marks(inner)


class MaskedBatch(NamedTuple):
    """A masked batch. Where `weights` is 0 there is no prediction, and position and label are 0."""

    input_ids: jax.Array
    """`[B, L]` int32, masked."""
    attention_mask: jax.Array
    """`[B, L]` bool, false at padding."""
    positions: jax.Array
    """`[B, P]` int32, places in the row."""
    labels: jax.Array
    """`[B, P]` int32, the original tokens there."""
    weights: jax.Array
    """`[B, P]` float32, 1 or 0."""


def masked_batch(key: jax.Array, batch: dict[str, jax.Array], special: MaskIds | None, masking: Masking) -> MaskedBatch:
    """Return a batch of a corpus, masked; `batch["row"]` `[B]` are the rows' places in the global batch.

    Without `special` (see `mask_ids`) the batch has static masks, and is returned as it is.
    """
    if special is None:
        return MaskedBatch(*(batch[name] for name in MaskedBatch._fields))
    return mask_tokens(key, batch["row"], batch["input_ids"], special, masking)


def mask_tokens(key: jax.Array, row_ids: jax.Array, ids: jax.Array, special: MaskIds, masking: Masking) -> MaskedBatch:
    """Mask a batch: key of this step; row_ids `[B]`, the rows' places in the global batch; ids `[B, L]`, any integers.

    A row with n tokens besides padding gets exactly min(P, max(1, round(rate · n))) predictions, or as many as it has
    tokens that are not special. Their places are drawn uniformly without replacement. Each token is, independently,
    replaced by [MASK], replaced by a token drawn uniformly from those not special, or kept.

    With `whole_word` the places are those of whole words, chosen as in BERT's `create_pretraining_data.py`: words are
    taken in random order, a word with more pieces than predictions are left is skipped, and each piece of a word is
    replaced or kept by itself. A row gets fewer predictions only if no further word fits. Skipping makes long words a
    little rarer: where 80, 12, 6 and 2% of the words have one to four pieces, and 19 tokens are predicted, a token in a
    word of four has 0.87 of the chance of a token in a word of one. The rest of a word that the beginning of the row
    cut is a word of its own.
    """
    ids = ids.astype(jnp.int32)
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(row_ids)
    input_ids, positions, labels, weights = jax.vmap(lambda k, row: _mask_row(k, row, special, masking))(keys, ids)
    return MaskedBatch(input_ids, ids != special.pad_id, positions, labels, weights)


def _mask_row(
    key: jax.Array, ids: jax.Array, special: MaskIds, masking: Masking
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Mask one row `[L]`; return its input ids `[L]`, positions, labels and weights `[P]`."""
    length = ids.shape[0]
    predictions = min(masking.predictions(length), length)
    choose, act, replace = jax.random.split(key, 3)
    candidate = jnp.isin(ids, jnp.array(special.special_ids), invert=True)
    wanted = jnp.maximum(1, jnp.round(masking.rate * (ids != special.pad_id).sum()))
    if masking.whole_word:
        continues = jnp.array(np.frombuffer(special.continues, np.bool_))[ids]
        taken = _whole_words(choose, candidate, continues, jnp.minimum(wanted, predictions).astype(jnp.int32))
        positions, count = jnp.nonzero(taken, size=predictions)[0].astype(jnp.int32), taken.sum()
    else:
        scores = jnp.where(candidate, jax.random.uniform(choose, (length,)), -1.0)
        positions, count = jax.lax.top_k(scores, predictions)[1].astype(jnp.int32), candidate.sum()
    chosen = jnp.arange(predictions) < jnp.minimum(wanted, count)

    labels = ids[positions]
    action = jax.random.uniform(act, (predictions,))
    changed = action < masking.mask_fraction + masking.random_fraction
    inputs = jnp.where(changed, _random_tokens(replace, predictions, special), labels)
    inputs = jnp.where(action < masking.mask_fraction, special.mask_id, inputs)
    places = jnp.where(chosen, positions, length)  # out of the row: dropped
    input_ids = ids.at[places].set(inputs, mode="drop")

    return input_ids, jnp.where(chosen, positions, 0), jnp.where(chosen, labels, 0), chosen.astype(jnp.float32)


def _whole_words(key: jax.Array, candidate: jax.Array, continues: jax.Array, room: jax.Array) -> jax.Array:
    """Choose words of a row `[L]` for at most `room` predictions; returns their places, `[L]` bool.

    `candidate` are the places that may be predicted, `continues` those whose token continues a word.
    """
    length = candidate.shape[0]
    starts = ~(continues & candidate & jnp.roll(candidate, 1).at[0].set(False))
    word = jnp.cumsum(starts) - 1  # of each place; a token that may not be predicted is a word without pieces
    order = jnp.argsort(jax.random.bits(key, (length,)))
    pieces = jnp.zeros(length, jnp.int32).at[word].add(candidate)[order]

    # A cumulative sum takes words one after the other until one does not fit. All words that are too long for the rest
    # are then skipped at once. Each round leaves less room than the pieces of the word that ended it, so one to three
    # rounds suffice for a row of ordinary text.
    def fitting(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        room, taken = state
        return ~taken & (pieces > 0) & (pieces <= room)

    def take(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        room, taken = state
        sizes = jnp.where(fitting(state), pieces, 0)
        new = (sizes > 0) & (jnp.cumsum(sizes) <= room)
        return room - jnp.where(new, sizes, 0).sum(), taken | new

    _, taken = jax.lax.while_loop(lambda state: fitting(state).any(), take, (room, jnp.zeros(length, jnp.bool_)))
    return jnp.zeros(length, jnp.bool_).at[order].set(taken)[word] & candidate


def _random_tokens(key: jax.Array, count: int, special: MaskIds) -> jax.Array:
    """Draw `[count]` ids uniformly from the vocabulary without the special ones."""
    drawn = jax.random.randint(key, (count,), 0, special.vocab_size - len(special.special_ids))
    for special_id in sorted(special.special_ids):  # ids from each one on move up by one
        drawn += drawn >= special_id
    return drawn
