"""Losses, each as a sum and its divisor, so that micro-batches add up to the whole batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> tuple[jax.Array, jax.Array]:
    """Return −log softmax(logits)[label], float32, and whether the label has the highest logit, both `[...]`.

    Logits are `[..., V]`, labels `[...]`. With `label_smoothing` ε, the target distribution is 1 − ε for the label plus
    ε / V for each class (Szegedy et al. 2016, arXiv 1512.00567, §7). The label's logit is compared with the maximum,
    which the loss needs anyway; an argmax over the vocabulary took a twentieth of a training step on CPU. A tie counts
    as correct.
    """
    # The masked-LM head computes logits as `[V, …]`, so this does not transpose anything in memory.
    logits = jnp.moveaxis(logits.astype(jnp.float32), -1, 0)
    chosen = jnp.take_along_axis(logits, labels[None], axis=0)[0]
    highest = jax.lax.stop_gradient(logits.max(0))
    log_sum = highest + jnp.log(jnp.exp(logits - highest).sum(0))
    target = chosen if label_smoothing == 0 else (1 - label_smoothing) * chosen + label_smoothing * logits.mean(0)
    return log_sum - target, chosen >= highest


def classification_sums(
    logits: jax.Array, labels: jax.Array, weights: jax.Array, label_smoothing: float = 0.0
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return the summed cross-entropy of logits `[..., V]`, labels `[...]` and weights `[...]` (0 to ignore a label).

    Further sums are "weight", the divisor, and "accuracy", the number of correct predictions.
    """
    loss, hits = cross_entropy(logits, labels, label_smoothing)
    return (loss * weights).sum(), {"weight": weights.sum(), "accuracy": (hits * weights).sum()}


def multi_label_sums(
    logits: jax.Array, labels: jax.Array, weights: jax.Array, label_smoothing: float = 0.0
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return the summed binary cross-entropy, a mean over K labels, of logits `[B, K]` and labels `[B, K]`, 0 or 1.

    Weights are `[B]`, or `[B, K]` for each label. With `label_smoothing` ε, the target probabilities are ε / 2 and
    1 − ε / 2. Further sums are "weight", the divisor, and "accuracy", the fraction of correct labels.
    """
    weights = jnp.broadcast_to(weights.reshape(len(labels), -1), labels.shape) / labels.shape[1]
    targets = labels * (1 - label_smoothing) + label_smoothing / 2
    loss = jax.nn.softplus(logits) - targets * logits
    hits = (logits > 0) == (labels > 0)
    return (loss * weights).sum(), {"weight": weights.sum(), "accuracy": (hits * weights).sum()}


def regression_sums(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return the summed squared error of logits `[B, 1]`, float labels `[B]` and weights `[B]`."""
    return ((logits[..., 0] - labels) ** 2 * weights).sum(), {"weight": weights.sum()}
