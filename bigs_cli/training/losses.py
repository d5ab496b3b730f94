"""Losses, each as a sum and what to divide it by, so that parts of a batch add up to the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bigs_cli.data.masking import MaskedBatch
from bigs_cli.model.functional import Apply, Parameters


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return −log softmax(logits)[label] for logits `[..., V]` and labels `[...]`, in float32."""
    logits = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def masked_lm_sums(
    apply: Apply, params: Parameters, batch: MaskedBatch, key: jax.Array | None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Sum the cross-entropy over the predicted positions; further sums: weight (their number), accuracy (hits)."""
    logits = apply(params, batch.input_ids, batch.attention_mask, key=key, positions=batch.positions).logits
    weights = batch.weights.astype(jnp.float32)
    hits = (logits.argmax(-1) == batch.labels) * weights
    loss = (cross_entropy(logits, batch.labels) * weights).sum()
    return loss, {"weight": weights.sum(), "accuracy": hits.sum()}


def classification_sums(
    logits: jax.Array, labels: jax.Array, weights: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Sum cross-entropy over examples: logits `[B, num_labels]`, labels and weights `[B]` (0 = filler row)."""
    hits = (logits.argmax(-1) == labels) * weights
    return (cross_entropy(logits, labels) * weights).sum(), {"weight": weights.sum(), "accuracy": hits.sum()}


def regression_sums(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Sum squared errors over examples: logits `[B, 1]`, float labels and weights `[B]`."""
    return ((logits[..., 0] - labels) ** 2 * weights).sum(), {"weight": weights.sum()}


def task_loss(apply: Apply, regression: bool) -> Callable[[Parameters, dict[str, Any], jax.Array, Any], Any]:
    """Return the summed loss of a labelled batch: input_ids, attention_mask, token_type_ids, labels, weights."""
    sums = regression_sums if regression else classification_sums

    def loss(
        params: Parameters, batch: dict[str, Any], key: jax.Array, part: Any
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        inputs = (batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
        outputs = apply(params, *inputs, key=jax.random.fold_in(key, part))
        return sums(outputs.logits, batch["labels"], batch["weights"])

    return loss
