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


def distillation(logits: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """Return T² · KL(softmax(teacher / T) ‖ softmax(logits / T)) in nats, float32 `[...]`, of logits `[..., V]`.

    T is the temperature. The factor T² keeps the size of the gradient (Hinton et al. 2015, arXiv 1503.02531, §2).
    """
    student, taught = (
        jax.nn.log_softmax(jnp.moveaxis(one.astype(jnp.float32), -1, 0) / temperature, axis=0)
        for one in (logits, teacher)
    )
    return temperature**2 * (jnp.exp(taught) * (taught - student)).sum(0)


def binary_distillation(logits: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """Return `distillation` of the probabilities sigmoid(logit) of K independent labels: logits are `[...]`."""
    student, taught = (jnp.stack([one, jnp.zeros_like(one)], -1) for one in (logits, teacher))
    return distillation(student, taught, temperature)


def with_teacher(
    total: jax.Array, sums: dict[str, jax.Array], from_teacher: jax.Array, weight: float
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return a summed loss to which the sum `from_teacher` contributes the fraction `weight`, and its sums."""
    return (1 - weight) * total + weight * from_teacher, {**sums, "distillation": from_teacher}


def ranking_sums(
    texts: jax.Array, ids: jax.Array, weights: jax.Array, temperature: float
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return the summed multiple-negatives ranking loss of embeddings `[B, n, H]`, n ≥ 2, and weights `[B]`.

    The second text of a row belongs to the first; those of all other rows, and any further texts, do not, except that
    rows with equal `ids` `[B]` have the same second text. The loss is
    the cross-entropy of choosing it among all of them by cosine similarity / temperature (Henderson et al. 2017, arXiv
    1705.00652, §4; the temperature as in SimCSE, arXiv 2104.08821). Further sums are "weight", and "accuracy": how
    often it is the most similar one.
    """
    unit = normalized(texts)
    candidates = jnp.swapaxes(unit[:, 1:], 0, 1).reshape(-1, unit.shape[-1])
    similarity = jnp.matmul(unit[:, 0], candidates.T, precision="highest") / temperature
    absent = jnp.tile(weights == 0, unit.shape[1] - 1)[None]  # the empty rows that pad a batch
    same = (ids[:, None] == ids[None]) & ~jnp.eye(len(ids), dtype=bool)
    absent = absent | jnp.pad(same, ((0, 0), (0, absent.shape[1] - len(ids))))
    return classification_sums(jnp.where(absent, -1e9, similarity), jnp.arange(len(texts)), weights)


def score_order_sums(
    texts: jax.Array, scores: jax.Array, weights: jax.Array, temperature: float
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return the CoSENT loss of embeddings `[B, 2, H]`, scores `[B]` and weights `[B]`, times the sum of the weights.

    log(1 + Σ exp((cos_j − cos_i) / temperature)) over the pairs of rows with score_i > score_j: rows with higher scores
    should have more similar texts (Su 2022, kexue.fm/archives/8847). The loss of a batch is no sum over its rows.
    """
    unit = normalized(texts)
    cosine = (unit[:, 0] * unit[:, 1]).sum(-1) / temperature
    ordered = (scores[:, None] > scores[None]) & (weights[:, None] * weights[None] > 0)
    terms = jnp.where(ordered, cosine[None] - cosine[:, None], -jnp.inf).ravel()
    loss = jax.nn.logsumexp(jnp.append(terms, 0.0))
    return loss * weights.sum(), {"weight": weights.sum()}


def normalized(vectors: jax.Array) -> jax.Array:
    """Return vectors `[..., H]` with length 1."""
    return vectors * jax.lax.rsqrt(jnp.maximum((vectors**2).sum(-1, keepdims=True), 1e-12))


def regression_sums(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return the summed squared error of logits `[B, 1]`, float labels `[B]` and weights `[B]`."""
    return ((logits[..., 0] - labels) ** 2 * weights).sum(), {"weight": weights.sum()}
