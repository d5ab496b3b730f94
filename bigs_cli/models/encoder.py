"""Token ids to hidden states: embeddings, the stack of layers, the pooler."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from bigs_cli.models import kernel, mixers
from bigs_cli.models.batch_sharding import constrain_batch_sharding
from bigs_cli.models.layer import Dense, Layer, layer_norm
from bigs_cli.recipe.config import BiGSConfig
from bigs_cli.recipe.schema import Compute


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Drop entries of x with probability `rate` and scale the rest; without a key (evaluation) return x."""
    if key is None or rate == 0:
        return x
    return nnx.Dropout(rate, deterministic=False)(x, rngs=key)


class Embeddings(nnx.Module):
    """word + token type + position → LayerNorm → dropout, giving `[B, L, H]`."""

    def __init__(self, config: BiGSConfig, compute: Compute, *, rngs: nnx.Rngs) -> None:
        def table(rows: int) -> nnx.Embed:
            return nnx.Embed(rows, config.hidden_size, rngs=rngs)

        self.dtype = jnp.dtype(compute.dtype)
        self.rate = config.hidden_dropout_prob
        self.word_embeddings = table(config.vocab_size)
        self.position_embeddings = table(config.max_position_embeddings)
        self.token_type_embeddings = table(config.type_vocab_size)
        self.LayerNorm = layer_norm(config, compute, rngs)

    def __call__(self, input_ids: jax.Array, token_type_ids: jax.Array | None, key: jax.Array | None) -> jax.Array:
        """Embed ids `[B, L]`; token types default to 0.

        Raises:
            ValueError: there are more tokens than positions.
        """
        L, longest = input_ids.shape[1], self.position_embeddings.num_embeddings
        if longest < L:
            raise ValueError(f"The input has {L} tokens; this model takes at most {longest}.")
        positions = self.position_embeddings.embedding[:L]
        if token_type_ids is None:
            types = self.token_type_embeddings.embedding[0]
        else:
            types = self.token_type_embeddings(token_type_ids)
        # Looked up in the table's own type: the gradient of a frequent word is a sum of thousands, and bfloat16 stops
        # counting at a few hundred.
        x = (self.word_embeddings(input_ids) + types + positions).astype(self.dtype)
        return dropout(self.LayerNorm(constrain_batch_sharding(x, 0)), self.rate, key)


class Encoder(nnx.Module):
    """The layers. `layer` is one `Layer` whose arrays carry a leading layer axis, or a list of layers held apart.

    Stacked, compile time need not grow with depth and the optimizer sees few arrays; apart, a forward pass reads
    weights in place. `compute.scan_layers` says whether stacked layers run in a `jax.lax.scan`.
    """

    def __init__(self, config: BiGSConfig, compute: Compute, *, apart: bool, rngs: nnx.Rngs) -> None:
        self.depth = config.num_hidden_layers
        self.compute = compute
        self.layout = compute.layout if compute.layout != "auto" else "tokens" if apart else "channels"

        def layer(rngs: nnx.Rngs) -> Layer:
            return Layer(config, compute, channels_first=self.layout == "channels", rngs=rngs)

        self.layer = (
            nnx.List([layer(rngs) for _ in range(self.depth)]) if apart else nnx.vmap(layer)(rngs.split(self.depth))
        )

    def __call__(self, x: jax.Array, keep: jax.Array | None) -> tuple[jax.Array, list[jax.Array] | jax.Array]:
        """Map x `[B, L, H]` to the last hidden state `[B, L, H]` and what every layer gave, `[depth]` of them.

        `keep` `[B, L]` is 0 where mixing must not see a position, or None.
        """
        B, L, H = x.shape
        mixer = mixers.choose(self.compute.mixing, L)
        operands = self._operands(mixer, L)

        def enter(x: jax.Array) -> jax.Array:
            if self.layout == "rows":
                return x
            x = x.reshape(B * L, -1)
            return x.T if self.layout == "channels" else x

        def leave(x: jax.Array) -> jax.Array:
            return (x.T if self.layout == "channels" else x).reshape(B, L, H)

        kept = None if keep is None else enter(keep[..., None])

        def run(graph: nnx.GraphDef[Layer], state: Any, x: jax.Array, operands: tuple[Any, Any]) -> jax.Array:
            return nnx.merge(graph, state)(x, mixer, operands, kept, B)

        if self.compute.remat == "layer":
            run = jax.checkpoint(run, static_argnums=(0,))
        x = enter(x)
        if isinstance(self.layer, Layer) and self._scans():
            graph, stacked = nnx.split(self.layer)

            def body(x: jax.Array, one: tuple[Any, tuple[Any, Any]]) -> tuple[jax.Array, jax.Array]:
                x = run(graph, one[0], x, one[1])
                return x, x

            x, hidden = jax.lax.scan(body, x, (stacked, operands))
            return leave(x), jax.vmap(leave)(hidden)
        states = []
        for (graph, state), one in zip(self._layers(), unstack(operands, self.depth), strict=True):
            x = run(graph, state, x, one)
            states.append(leave(x))
        return leave(x), states

    def _scans(self) -> bool:
        if self.compute.scan_layers == "auto":
            # On CPU each scan step copies the layer's weights, which costs about a forward pass.
            return jax.default_backend() != "cpu"
        return bool(self.compute.scan_layers)

    def _layers(self) -> list[tuple[nnx.GraphDef[Layer], Any]]:
        if isinstance(self.layer, Layer):
            graph, stacked = nnx.split(self.layer)
            return [(graph, one) for one in unstack(stacked, self.depth)]
        return [nnx.split(layer) for layer in self.layer]

    def _operands(self, mixer: mixers.Mixer, L: int) -> tuple[Any, Any]:
        """Prepare the mixing of all layers at once: (forward, backward), each with a leading layer axis."""

        def prepare(direction: str) -> Any:
            if isinstance(self.layer, Layer):
                ssm = getattr(self.layer, direction).parameters()
            else:
                each = [getattr(layer, direction).parameters() for layer in self.layer]
                ssm = kernel.SSMParameters(*map(jnp.stack, zip(*each, strict=True)))
            return mixer.operands(kernel.discretize(ssm), L)

        return prepare("fs4"), prepare("bs4")


class Pooler(nnx.Module):
    """Mean over the real tokens (or, "mean", over every position) → dense → tanh, giving `[B, H]`."""

    def __init__(self, config: BiGSConfig, compute: Compute) -> None:
        self.everywhere = config.pooler_type == "mean"
        self.dense = Dense(config.hidden_size, config.hidden_size, compute)

    def __call__(self, x: jax.Array, attention_mask: jax.Array) -> jax.Array:
        """Pool x `[B, L, H]` under `attention_mask` `[B, L]` (1 = real); a row without real tokens pools to 0."""
        weight = jnp.ones_like(attention_mask) if self.everywhere else attention_mask
        weight = weight.astype(jnp.float32)[..., None]
        mean = (x.astype(jnp.float32) * weight).sum(1) / jnp.maximum(weight.sum(1), 1)
        return jnp.tanh(self.dense(mean.astype(x.dtype)))


class BiGS(nnx.Module):
    """Embeddings and encoder, and the pooler where the head needs one."""

    def __init__(self, config: BiGSConfig, compute: Compute, *, pooler: bool, apart: bool, rngs: nnx.Rngs) -> None:
        self.pad_token_id = config.pad_token_id
        self.mask_padding = config.mask_padding
        self.embeddings = Embeddings(config, compute, rngs=rngs)
        self.encoder = Encoder(config, compute, apart=apart, rngs=rngs)
        self.pooler = Pooler(config, compute) if pooler else None

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        token_type_ids: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array | None, list[jax.Array]]:
        """Return the last hidden state `[B, L, H]`, the pooled `[B, H]` or None, and every hidden state.

        The mask defaults to "not [PAD]". It acts in the pooler, and before mixing if `mask_padding` is on. `key`
        turns dropout on. The hidden states are the embeddings and what each layer gave.
        """
        if attention_mask is None:
            attention_mask = (input_ids != self.pad_token_id).astype(jnp.int32)
        embedded = self.embeddings(input_ids, token_type_ids, key)
        last, hidden = self.encoder(embedded, attention_mask if self.mask_padding else None)
        pooled = None if self.pooler is None else self.pooler(last, attention_mask)
        return last, pooled, [embedded, *hidden]


@jax.custom_vjp
def _split_first_axis(stacked: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(stacked[i] for i in range(stacked.shape[0]))


def _split_forward(stacked: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
    return _split_first_axis(stacked), None


def _split_backward(_: None, gradients: tuple[jax.Array, ...]) -> tuple[jax.Array]:
    # The automatic gradient pads each slice to the whole stack and adds: depth² copies instead of one.
    return (jnp.stack(gradients),)


_split_first_axis.defvjp(_split_forward, _split_backward)


def unstack(tree: Any, depth: int) -> list[Any]:
    """Split every array of `tree` along its leading axis of size `depth` into `depth` trees."""
    leaves, structure = jax.tree.flatten(tree)
    parts = [_split_first_axis(leaf) for leaf in leaves]
    return [structure.unflatten([part[i] for part in parts]) for i in range(depth)]
