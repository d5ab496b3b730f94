"""The eight published heads on the encoder, each a module with the published attribute names.

Every head is called `head(input_ids, attention_mask, token_type_ids, key=None)` with ids `[B, L]` (multiple choice:
`[B, choices, L]`) and returns an `Outputs`: a dict of arrays with attribute access. Logits are always float32: bfloat16
has only three digits.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from bigs_cli.models.blocks import Dense, layer_norm
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.encoder import BiGS, dropout, masked_mean
from bigs_cli.models.matmul import dense, project
from bigs_cli.models.sharding import constrain_tokens, token_layout
from bigs_cli.recipe.groups import Compute


@jax.tree_util.register_pytree_with_keys_class
class Outputs(dict[str, Any]):
    """Named arrays: `outputs["logits"]` and `outputs.logits` are the same."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the outputs have no '{name}'; they are: {', '.join(self)}") from None

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
        """Return the arrays in a fixed order, for JAX."""
        names = tuple(sorted(self))
        return [(jax.tree_util.DictKey(name), self[name]) for name in names], names

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], arrays: Any) -> Outputs:
        """Rebuild the outputs from the names and arrays of `tree_flatten_with_keys`."""
        return cls(zip(names, arrays, strict=True))


class _Transform(nnx.Module):
    """dense → exact GELU → LayerNorm, before the product with the vocabulary."""

    def __init__(self, config: BiGSConfig, compute: Compute, *, rngs: nnx.Rngs) -> None:
        self.dense = Dense(config.hidden_size, config.hidden_size, compute)
        self.LayerNorm = layer_norm(config, compute, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.LayerNorm(jax.nn.gelu(self.dense(x), approximate=False))


class _Decoder(nnx.Module):
    """An untied output matrix `[H, V]` without a bias."""

    def __init__(self, config: BiGSConfig) -> None:
        self.kernel = nnx.Param(jnp.zeros((config.hidden_size, config.vocab_size)))


class Predictions(nnx.Module):
    """Hidden states → vocabulary logits: transform, then the transposed word embedding (or `decoder`), plus a bias."""

    def __init__(self, config: BiGSConfig, compute: Compute, *, rngs: nnx.Rngs) -> None:
        self.transform = _Transform(config, compute, rngs=rngs)
        self.decoder = None if config.tie_word_embeddings else _Decoder(config)
        self.bias = nnx.Param(jnp.zeros(config.vocab_size))

    def __call__(self, x: jax.Array, word_embedding: jax.Array, train: bool) -> jax.Array:
        """Map `[..., H]` to float32 logits `[..., V]`; `word_embedding` is `[V, H]`.

        With `train`, logits are computed as `[V, …]`, which avoids the largest transposition of the backward pass.
        """
        h = self.transform(x)
        matrix, tied = (word_embedding, True) if self.decoder is None else (self.decoder.kernel[...], False)
        if not train:
            return project(h, matrix, tied, jnp.float32) + self.bias[...]
        layout = token_layout(*h.shape[:2])
        return layout.leave(constrain_tokens(dense(matrix, self.bias[...], layout.enter(h), not tied, jnp.float32)))


class _Cls(nnx.Module):
    """The pretraining heads; the published checkpoints name them `cls`."""

    def __init__(self, config: BiGSConfig, compute: Compute, *, words: bool, sentences: bool, rngs: nnx.Rngs) -> None:
        self.predictions = Predictions(config, compute, rngs=rngs) if words else None
        self.seq_relationship = Dense(config.hidden_size, 2, compute) if sentences else None


def _one_text_per_row(*inputs: jax.Array | None) -> list[Any]:
    """Return inputs `[B, …, L]` as `[B·…, L]`; None stays None."""
    return [None if array is None else array.reshape(-1, array.shape[-1]) for array in inputs]


class EncoderModel(BiGS):
    """The bare encoder with its pooler: `last_hidden_state` `[B, L, H]`, `pooler_output` `[B, H]`.

    `embedding` is the mean of the last hidden state over the real tokens, float32 `[B, H]`. Inputs of n texts per row,
    `[B, n, L]`, are encoded one by one; then `embedding` is `[B, n, H]`, and the first axis of the others is B·n.
    """

    def __init__(self, config: BiGSConfig, compute: Compute, *, unstacked: bool, rngs: nnx.Rngs) -> None:
        super().__init__(config, compute, pooler=True, unstacked=unstacked, rngs=rngs)

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        token_type_ids: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> Outputs:
        """Encode; the hidden states are the embeddings and the output of each block."""
        rows = input_ids.shape[:-1]
        mask = (input_ids != self.pad_token_id).astype(jnp.int32) if attention_mask is None else attention_mask
        ids, mask, types = _one_text_per_row(input_ids, mask, token_type_ids)
        last, pooled, hidden = super().__call__(ids, mask, types, key)
        embedding = masked_mean(last, mask).reshape(*rows, -1)
        return Outputs(last_hidden_state=last, pooler_output=pooled, hidden_states=hidden, embedding=embedding)


class PretrainingModel(nnx.Module):
    """Masked-word prediction, next-sentence prediction, or both.

    Returns `logits` for one head, or `prediction_logits` and `seq_relationship_logits` for both.
    """

    def __init__(
        self,
        config: BiGSConfig,
        compute: Compute,
        *,
        words: bool,
        sentences: bool,
        unstacked: bool,
        rngs: nnx.Rngs,
    ) -> None:
        self.s4_bert = BiGS(config, compute, pooler=sentences, unstacked=unstacked, rngs=rngs)
        self.cls = _Cls(config, compute, words=words, sentences=sentences, rngs=rngs)

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        token_type_ids: jax.Array | None = None,
        key: jax.Array | None = None,
        positions: jax.Array | None = None,
    ) -> Outputs:
        """Predict words at every position `[B, L, V]`, or only at `positions` `[B, P]`: `[B, P, V]`."""
        last, pooled, hidden = self.s4_bert(input_ids, attention_mask, token_type_ids, key)
        words, sentences = None, None
        if self.cls.predictions is not None:
            at = last if positions is None else jnp.take_along_axis(last, positions[..., None], axis=1)
            words = self.cls.predictions(at, self.s4_bert.embeddings.word_embeddings.embedding[...], key is not None)
        if self.cls.seq_relationship is not None and pooled is not None:
            sentences = self.cls.seq_relationship(pooled, dtype=jnp.float32)
        if words is not None and sentences is not None:
            return Outputs(prediction_logits=words, seq_relationship_logits=sentences, hidden_states=hidden)
        return Outputs(logits=words if sentences is None else sentences, hidden_states=hidden)


class Classifier(nnx.Module):
    """Dropout → dense, on the pooled hidden state of a sequence or choice, or on every token; returns `logits`.

    Their shape is `[B, num_labels]` for sequences (one label: regression), `[B, L, num_labels]` for tokens, and
    `[B, choices]` for choices.
    """

    def __init__(self, config: BiGSConfig, compute: Compute, *, of: str, unstacked: bool, rngs: nnx.Rngs) -> None:
        self.of = of
        specific = config.classifier_dropout
        self.rate = config.hidden_dropout_prob if specific is None else specific
        self.s4_bert = BiGS(config, compute, pooler=of != "tokens", unstacked=unstacked, rngs=rngs)
        outputs = 1 if of == "choices" else config.num_labels
        self.classifier = Dense(config.hidden_size, outputs, compute)

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        token_type_ids: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> Outputs:
        """Classify; `key` enables dropout in the embeddings and before the classifier."""
        rows = input_ids.shape[:-1]
        ids, mask, types = _one_text_per_row(input_ids, attention_mask, token_type_ids)
        keys = (None, None) if key is None else jax.random.split(key)
        last, pooled, hidden = self.s4_bert(ids, mask, types, keys[0])
        features = last if pooled is None else pooled
        logits = self.classifier(dropout(features, self.rate, keys[1]), dtype=jnp.float32)
        if self.of == "choices":
            logits = logits.reshape(rows)
        outputs = Outputs(logits=logits, last_hidden_state=last, hidden_states=hidden)
        return outputs if pooled is None else Outputs(outputs, pooler_output=pooled)


class QuestionAnswering(nnx.Module):
    """Scores for the start and end of an answer: `start_logits`, `end_logits`, each `[B, L]`."""

    def __init__(self, config: BiGSConfig, compute: Compute, *, unstacked: bool, rngs: nnx.Rngs) -> None:
        self.s4_bert = BiGS(config, compute, pooler=False, unstacked=unstacked, rngs=rngs)
        self.qa_outputs = Dense(config.hidden_size, 2, compute)

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        token_type_ids: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> Outputs:
        """Score every position as the start and as the end of the answer."""
        last, _, hidden = self.s4_bert(input_ids, attention_mask, token_type_ids, key)
        logits = self.qa_outputs(last, dtype=jnp.float32)
        return Outputs(start_logits=logits[..., 0], end_logits=logits[..., 1], hidden_states=hidden)


HEADS: dict[str, Any] = {
    "encoder": EncoderModel,
    "masked-lm": partial(PretrainingModel, words=True, sentences=False),
    "pretraining": partial(PretrainingModel, words=True, sentences=True),
    "next-sentence": partial(PretrainingModel, words=False, sentences=True),
    "sequence-classification": partial(Classifier, of="sequences"),
    "token-classification": partial(Classifier, of="tokens"),
    "question-answering": QuestionAnswering,
    "multiple-choice": partial(Classifier, of="choices"),
}
