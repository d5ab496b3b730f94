"""Losses, each as a sum and what to divide it by, so that parts of a batch add up to the whole."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return −log softmax(logits)[label], float32, and whether the label scored highest, both `[...]`.

    Logits are `[..., V]`, labels `[...]`. "Highest" compares with the maximum, which the loss needs anyway: an argmax
    over the vocabulary took a twentieth of a training step on CPU. A tie counts as right.
    """
    logits = jnp.moveaxis(logits.astype(jnp.float32), -1, 0)  # As the word head makes them: nothing is transposed.
    chosen = jnp.take_along_axis(logits, labels[None], axis=0)[0]
    highest = jax.lax.stop_gradient(logits.max(0))
    log_sum = highest + jnp.log(jnp.exp(logits - highest).sum(0))
    return log_sum - chosen, chosen >= highest


def classification_sums(
    logits: jax.Array, labels: jax.Array, weights: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Sum the cross-entropy: logits `[..., V]`, labels `[...]`, weights `[...]` (0: does not count).

    Further sums: "weight", what to divide by, and "accuracy", the hits.
    """
    loss, hits = cross_entropy(logits, labels)
    return (loss * weights).sum(), {"weight": weights.sum(), "accuracy": (hits * weights).sum()}


def regression_sums(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Sum squared errors over examples: logits `[B, 1]`, float labels and weights `[B]`."""
    return ((logits[..., 0] - labels) ** 2 * weights).sum(), {"weight": weights.sum()}
