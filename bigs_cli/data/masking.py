"""Selection of the predicted tokens of a masked language model, inside the jitted step (Devlin et al. 2018, §3.1).

The masks of a row depend only on the seed, the step and the row's position in the global batch, so they do not depend
on the number of devices. Rows of a corpus with static masks are already masked.
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
from bigs_cli.recipe.groups import Masking

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTE_LEVEL_SPACE = "Ġ"  # represents a space in byte-level BPE, since GPT-2
# The characters that represent the bytes 0x80 to 0xBF, which continue a character of UTF-8, in byte-level BPE.
_CONTINUATION_BYTES = frozenset(map(chr, (*range(161, 173), *range(174, 192), *range(290, 324))))


@dataclass(frozen=True)
class MaskIds:
    """The properties of a vocabulary that masking uses. Hashable, because it is a static argument."""

    pad_id: int
    mask_id: int
    vocab_size: int
    special_ids: tuple[int, ...]
    """Ids that are never predicted and never replace another token."""
    continues: bytes = field(default=b"", repr=False)
    """For each id, whether it continues the word of the previous token; empty unless whole words are masked."""

    @classmethod
    def of(cls, corpus: Corpus, masking: Masking, vocab_size: int) -> MaskIds:
        """Return the properties of the vocabulary of a corpus; `vocab_size` is that of the model, which may be larger.

        Raises:
            RequestError: `whole_word` is set, but the tokenizer does not mark where words begin.
        """
        special = corpus.manifest.special_ids
        continues = word_continuations(corpus.tokenizer(), vocab_size) if masking.whole_word else b""
        return cls(special[PAD], special[MASK], vocab_size, tuple(sorted(set(special.values()))), continues)


def mask_ids(corpus: Corpus, masking: Masking, vocab_size: int) -> MaskIds | None:
    """Return the `MaskIds` of `corpus` for `masked_batch`; None if the rows have static masks.

    Raises:
        RequestError: as `MaskIds.of` does.
    """
    return None if corpus.static_masks else MaskIds.of(corpus, masking, vocab_size)


def word_continuations(tokenizer: Tokenizer, size: int) -> bytes:
    """Return for each of `size` ids 1 if the token continues the word of the previous token, else 0.

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
            "masking.whole_word requires a vocabulary that marks where words begin: WordPiece with '##', byte-level "
            "BPE or SentencePiece. The tokenizer of these shards is none of these. Set masking.whole_word to false."
        )
    added = tokenizer.get_added_tokens_decoder()
    continues = bytearray(size)
    for token, token_id in tokenizer.get_vocab().items():
        if token_id not in added:
            continues[token_id] = token.startswith(prefix) if prefix else not token.startswith(marks)
    return bytes(continues)


def characters_of(tokenizer: Tokenizer, size: int) -> np.ndarray[Any, Any]:
    """Return the number of characters of text that each of `size` ids stands for, `[V]` int32.

    The marks of word pieces ("##") and of spaces ("Ġ", "▁") are not counted; a special token counts as one character.
    """
    form = json.loads(tokenizer.to_str())
    spaces = {mark for part in (form["pre_tokenizer"], form["decoder"]) for mark in _word_marks(part)}
    prefix, byte_level = form["model"].get("continuing_subword_prefix") or "", _BYTE_LEVEL_SPACE in spaces
    added = tokenizer.get_added_tokens_decoder()
    counts = np.ones(size, np.int32)
    for token, token_id in tokenizer.get_vocab().items():
        if token_id not in added:
            text = token.removeprefix(prefix)
            counts[token_id] = sum(c not in spaces and not (byte_level and c in _CONTINUATION_BYTES) for c in text)
    return counts


def _word_marks(part: Any) -> Iterator[str]:
    """Yield the marks of the start of a word in a pre-tokenizer or decoder of a tokenizer.json."""
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
    """`[B, P]` int32, positions in the row."""
    labels: jax.Array
    """`[B, P]` int32, the original tokens at these positions."""
    weights: jax.Array
    """`[B, P]` float32, 1 or 0."""


def masked_batch(key: jax.Array, batch: dict[str, jax.Array], special: MaskIds | None, masking: Masking) -> MaskedBatch:
    """Return a masked batch of a corpus; `batch["row"]` `[B]` are the positions of the rows in the global batch.

    `batch["mask_rate"]` `[B]`, if present, replaces `masking.rate`. Without `special` (see `mask_ids`), the batch has
    static masks and is returned unchanged.
    """
    if special is None:
        return MaskedBatch(*(batch[name] for name in MaskedBatch._fields))
    return mask_tokens(key, batch["row"], batch["input_ids"], special, masking, batch.get("mask_rate"))


def mask_tokens(
    key: jax.Array,
    row_ids: jax.Array,
    ids: jax.Array,
    special: MaskIds,
    masking: Masking,
    rates: jax.Array | None = None,
) -> MaskedBatch:
    """Mask a batch: `key` of the step; `row_ids` `[B]`, positions in the global batch; `ids` `[B, L]`, any integers.

    `rates` `[B]` replaces `masking.rate`. A row with n tokens that are not padding has exactly min(P, max(1, round(rate
    · n))) predictions, or one per token that is not special, if these are fewer. Their positions are drawn uniformly
    without replacement. Each token is, independently, replaced by [MASK], replaced by a token drawn uniformly from the
    tokens that are not special, or kept.

    With `whole_word`, whole words are selected as in BERT's `create_pretraining_data.py`: words are taken in random
    order, a word with more pieces than the remaining predictions is skipped, and each piece of a word is replaced or
    kept independently. A row has fewer predictions only if no further word fits. Skipping makes the selection of long
    words slightly less likely: if 80, 12, 6 and 2% of the words have one to four pieces, and 19 tokens are predicted,
    the probability for a token in a word of four pieces is 0.87 of that in a word of one piece. If a word was split
    across two rows, its rest at the start of the second row counts as a word.
    """
    ids = ids.astype(jnp.int32)
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(row_ids)
    if rates is None:
        rates = jnp.full(len(ids), masking.rate, jnp.float32)
    mask = jax.vmap(lambda k, row, rate: _mask_row(k, row, rate, special, masking))
    input_ids, positions, labels, weights = mask(keys, ids, rates)
    return MaskedBatch(input_ids, ids != special.pad_id, positions, labels, weights)


def _mask_row(
    key: jax.Array, ids: jax.Array, rate: jax.Array, special: MaskIds, masking: Masking
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Mask a fraction `rate` of one row `[L]`; return its input ids `[L]`, positions, labels and weights `[P]`."""
    length = ids.shape[0]
    predictions = min(masking.predictions(length), length)
    choose, act, replace = jax.random.split(key, 3)
    candidate = jnp.isin(ids, jnp.array(special.special_ids), invert=True)
    wanted = jnp.maximum(1, jnp.round(rate * (ids != special.pad_id).sum()))
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
    places = jnp.where(chosen, positions, length)  # outside the row, therefore dropped
    input_ids = ids.at[places].set(inputs, mode="drop")

    return input_ids, jnp.where(chosen, positions, 0), jnp.where(chosen, labels, 0), chosen.astype(jnp.float32)


def _whole_words(key: jax.Array, candidate: jax.Array, continues: jax.Array, room: jax.Array) -> jax.Array:
    """Select words of a row `[L]` for at most `room` predictions; return a mask of their positions, `[L]` bool.

    `candidate` marks positions that may be predicted, `continues` positions whose token continues a word.
    """
    length = candidate.shape[0]
    starts = ~(continues & candidate & jnp.roll(candidate, 1).at[0].set(False))
    word = jnp.cumsum(starts) - 1  # per position; a token that may not be predicted is a word without pieces
    order = jnp.argsort(jax.random.bits(key, (length,)))
    pieces = jnp.zeros(length, jnp.int32).at[word].add(candidate)[order]

    # A cumulative sum takes words one after the other until one does not fit. All words that are too long for the rest
    # are then skipped at once. The word that ended a round has more pieces than there are predictions left, so one to
    # three rounds suffice for ordinary text.
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
    """Draw `[count]` ids uniformly from the vocabulary without special tokens."""
    drawn = jax.random.randint(key, (count,), 0, special.vocab_size - len(special.special_ids))
    for special_id in sorted(special.special_ids):  # skip the special id: increment all ids from it on
        drawn += drawn >= special_id
    return drawn
