"""Choosing what a masked language model is to predict, inside the jitted step (Devlin et al. 2018, §3.1).

A row's masks depend on the seed, the step and the row's place in the global batch, and on nothing else: they are
the same on one device and on many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bigs_cli.data.tokenizer import MASK, PAD
from bigs_cli.recipe.schema import Masking


@dataclass(frozen=True)
class MaskIds:
    """What masking has to know of the vocabulary. Hashable: a static argument."""

    pad_id: int
    mask_id: int
    vocab_size: int
    special_ids: tuple[int, ...]
    """Ids that are never predicted, nor put in another token's place."""

    @classmethod
    def of(cls, special_ids: Mapping[str, int], vocab_size: int) -> MaskIds:
        """Return them from the ids of the special tokens by name, as in a manifest of token shards."""
        return cls(special_ids[PAD], special_ids[MASK], vocab_size, tuple(sorted(set(special_ids.values()))))


class MaskedBatch(NamedTuple):
    """A batch to train on. Where `weights` is 0 there is no prediction, and position and label are 0."""

    input_ids: jax.Array
    """`[B, L]` int32, masked."""
    attention_mask: jax.Array
    """`[B, L]` bool, false at padding."""
    positions: jax.Array
    """`[B, P]` int32, places in the row."""
    labels: jax.Array
    """`[B, P]` int32, the tokens that stood there."""
    weights: jax.Array
    """`[B, P]` float32, 1 or 0."""


def mask_tokens(key: jax.Array, row_ids: jax.Array, ids: jax.Array, special: MaskIds, masking: Masking) -> MaskedBatch:
    """Mask a batch: key of this step; row_ids `[B]`, the rows' places in the global batch; ids `[B, L]`, any integers.

    A row with n tokens that are no padding gets exactly min(P, max(1, round(rate · n))) predictions, or as many
    as it has tokens that are not special, at places of these drawn uniformly without replacement. Each is
    replaced by [MASK], by a token drawn uniformly from those not special, or left, independently.
    """
    ids = ids.astype(jnp.int32)
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(row_ids)
    input_ids, positions, labels, weights = jax.vmap(lambda k, row: _mask_row(k, row, special, masking))(keys, ids)
    return MaskedBatch(input_ids, ids != special.pad_id, positions, labels, weights)


def _mask_row(
    key: jax.Array, ids: jax.Array, special: MaskIds, masking: Masking
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Mask one row `[L]`; returns its input ids `[L]`, positions, labels and weights `[P]`."""
    length = ids.shape[0]
    predictions = min(masking.predictions(length), length)
    choose, act, replace = jax.random.split(key, 3)
    candidate = jnp.isin(ids, jnp.array(special.special_ids), invert=True)
    scores = jnp.where(candidate, jax.random.uniform(choose, (length,)), -1.0)
    positions = jax.lax.top_k(scores, predictions)[1].astype(jnp.int32)

    wanted = jnp.maximum(1, jnp.round(masking.rate * (ids != special.pad_id).sum()))
    chosen = jnp.arange(predictions) < jnp.minimum(wanted, candidate.sum())

    labels = ids[positions]
    action = jax.random.uniform(act, (predictions,))
    changed = action < masking.mask_fraction + masking.random_fraction
    inputs = jnp.where(changed, _random_tokens(replace, predictions, special), labels)
    inputs = jnp.where(action < masking.mask_fraction, special.mask_id, inputs)
    places = jnp.where(chosen, positions, length)  # out of the row: dropped
    input_ids = ids.at[places].set(inputs, mode="drop")

    return input_ids, jnp.where(chosen, positions, 0), jnp.where(chosen, labels, 0), chosen.astype(jnp.float32)


def _random_tokens(key: jax.Array, count: int, special: MaskIds) -> jax.Array:
    """Draw `[count]` ids uniformly from the vocabulary without the special ones."""
    drawn = jax.random.randint(key, (count,), 0, special.vocab_size - len(special.special_ids))
    for special_id in sorted(special.special_ids):  # each leaves a gap that the ids from it on step over
        drawn += drawn >= special_id
    return drawn
