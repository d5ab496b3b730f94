"""From token ids to hidden states: embeddings, the stack of blocks, the pooler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from bigs_cli.models import mixers, ssm
from bigs_cli.models.backends import backend
from bigs_cli.models.blocks import PART, Block, Dense, Mix, layer_norm
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.matmul import has_symbolic_size
from bigs_cli.models.sharding import constrain_row_segments, gather_table, token_layout
from bigs_cli.recipe.groups import Compute


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Drop entries of x with probability `rate` and scale the others; without a key (evaluation) return x."""
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
            ValueError: the input is longer than the position table.
        """
        L, limit = input_ids.shape[1], self.position_embeddings.num_embeddings
        if limit < L:
            raise ValueError(f"The input has {L} tokens; this model takes at most {limit}.")
        positions = self.position_embeddings.embedding[:L]
        if token_type_ids is None:
            types = self.token_type_embeddings.embedding[0]
        else:
            types = self.token_type_embeddings(token_type_ids)
        # Added in the float32 of the tables: the gradient of a frequent word is a sum of thousands of terms, and
        # bfloat16 sums stop growing at a few hundred.
        table = gather_table(self.word_embeddings.embedding[...])
        words = jnp.take(table, constrain_row_segments(input_ids), axis=0)
        x = (words + types + positions).astype(self.dtype)
        return dropout(self.LayerNorm(constrain_row_segments(x)), self.rate, key)


class Encoder(nnx.Module):
    """The stack of blocks.

    `layer` is one block whose parameters are stacked, with a leading layer axis, or, if `unstacked`, a list of blocks.
    Blocks with stacked parameters are for training: the optimizer sees few arrays, and except on CPU the blocks run in
    a `jax.lax.scan`, whose compile time does not grow with depth. Their activations are `[H, B·L]`, which no product of
    the backward pass transposes. Blocks with separate parameters are for inference: they read weights in place, and
    their activations are `[B, L, H]`.

    `mixing` (unstacked only) replaces the mixing that the SSM parameters define: it maps the index of a layer to its
    forward and backward mixing functions. `LayerNorm` follows the last block if `final_norm` is set.
    """

    def __init__(self, config: BiGSConfig, compute: Compute, *, unstacked: bool, rngs: nnx.Rngs) -> None:
        self.depth = config.num_hidden_layers
        self.compute = compute
        self.heads = config.num_attention_heads if config.attends else None
        self.mixing: Callable[[int], tuple[Mix, ...]] | None = None

        def block(rngs: nnx.Rngs) -> Block:
            return Block(config, compute, channels_first=not unstacked, rngs=rngs)

        self.layer = (
            nnx.List([block(rngs) for _ in range(self.depth)]) if unstacked else nnx.vmap(block)(rngs.split(self.depth))
        )
        self.LayerNorm = layer_norm(config, compute, rngs) if config.final_norm else None

    def __call__(self, x: jax.Array, keep: jax.Array | None) -> tuple[jax.Array, list[jax.Array] | jax.Array]:
        """Map x `[B, L, H]` to the last hidden state `[B, L, H]` and the outputs of all `depth` blocks.

        With `final_norm`, the output of the last block is normalized, as in `transformers`.

        `keep` `[B, L]` is 0 at positions that mixing must ignore, else 1; None ignores no position.
        """
        last, states = self._unstacked(x, keep) if isinstance(self.layer, nnx.List) else self._stacked(x, keep)
        if self.LayerNorm is None:
            return last, states
        last = self.LayerNorm(last)
        return last, states.at[-1].set(last) if isinstance(states, jax.Array) else [*states[:-1], last]

    def _stacked(self, x: jax.Array, keep: jax.Array | None) -> tuple[jax.Array, list[jax.Array] | jax.Array]:
        B, L, H = x.shape
        layout = token_layout(B, L)
        enter, leave = layout.enter, layout.leave
        real = None if keep is None else enter(keep[..., None])
        graph, stacked = nnx.split(self.layer)
        mixer = mixers.choose(self.compute.mixing, L, layout.segments)
        operands = () if self.heads else self._operands(mixer, L)
        rows = (H, B, L) if layout.segments == 1 else (H, *layout.parts)

        def mixing(operands: Any) -> tuple[Mix, ...]:
            def mix(u: jax.Array, operands: Any, reverse: bool) -> jax.Array:
                return mixer.mix(operands, _masked(u, real).reshape(rows), reverse).reshape(u.shape)

            def attention(*inputs: jax.Array) -> jax.Array:
                return enter(self._attend(*map(leave, inputs), keep=keep))

            return (attention,) if self.heads else _directions(mix, operands)

        def run(state: Any, x: jax.Array, operands: Any) -> jax.Array:
            return nnx.merge(graph, state)(x, *mixing(operands), in_parts=_is_long(x, L))

        if self.compute.remat == "layer":
            run = jax.checkpoint(run)
        x = enter(x)
        if backend().scans_layers or _is_long(x, L):
            x, hidden = _scan(run, x, stacked, operands)
            return leave(x), jax.vmap(leave)(hidden)
        states = []
        for state, layer_operands in unstack((stacked, operands), self.depth):
            x = run(state, x, layer_operands)
            states.append(leave(x))
        return leave(x), states

    def _unstacked(self, x: jax.Array, keep: jax.Array | None) -> tuple[jax.Array, list[jax.Array]]:
        real, L = None if keep is None else keep[..., None], x.shape[1]
        mixer, blocks = mixers.choose(self.compute.mixing, L), list(self.layer)  # pyright: ignore[reportArgumentType]
        long = _is_long(x, L)

        def masked(mix: Mix) -> Mix:
            return lambda u: mix(_masked(u, real))

        def mix(u: jax.Array, operands: Any, reverse: bool) -> jax.Array:
            return mixers.mix_channels_last(mixer, operands, _masked(u, real), reverse)

        def mixing(operands: Any) -> tuple[Mix, ...]:
            return (partial(self._attend, keep=keep),) if self.heads else _directions(mix, operands)

        if self.mixing is not None:
            mixing_of = [tuple(map(masked, self.mixing(index))) for index in range(self.depth)]
        else:
            operands = () if self.heads else self._operands(mixer, L)
            if long:
                graph, _ = nnx.split(blocks[0])
                stacked = jax.tree.map(lambda *layers: jnp.stack(layers), *map(nnx.state, blocks))

                def run(state: Any, x: jax.Array, operands: Any) -> jax.Array:
                    return nnx.merge(graph, state)(x, *mixing(operands), in_parts=True)

                x, hidden = _scan(run, x, stacked, operands)
                return x, list(hidden)
            mixing_of = [mixing(layer_operands) for layer_operands in unstack(operands, self.depth)]
        states = []
        for block, mixes in zip(blocks, mixing_of, strict=True):
            x = block(x, *mixes, in_parts=long)
            states.append(x)
        return x, states

    def _attend(self, *inputs: jax.Array, keep: jax.Array | None) -> jax.Array:
        assert keep is not None
        assert self.heads is not None
        return mixers.attend(*inputs, keep=keep, heads=self.heads)

    def _operands(self, mixer: mixers.Mixer, L: int) -> tuple[Any, Any]:
        """Prepare the mixing of all layers at once: (forward, backward), each with a leading layer axis."""

        def parameters(direction: str) -> ssm.SSMParameters:
            if isinstance(self.layer, Block):
                return getattr(self.layer, direction).parameters()
            each = [getattr(block, direction).parameters() for block in self.layer]
            return ssm.SSMParameters(*map(jnp.stack, zip(*each, strict=True)))

        # Both directions in one call: discretization is a third of a small model's graph, and so of its compile time.
        both = jax.tree.map(lambda *pair: jnp.stack(pair), parameters("fs4"), parameters("bs4"))
        forward, backward = unstack(ssm.discretize(both), 2)
        return mixer.operands(forward, L), mixer.operands(backward, L)


def _is_long(x: jax.Array, L: int) -> bool:
    """Return whether blocks compute x, rows of L tokens on one device, in parts."""
    return not has_symbolic_size(x) and L > PART and jax.sharding.get_abstract_mesh().empty


def _scan(
    run: Callable[[Any, Any, Any], jax.Array], x: jax.Array, states: Any, operands: Any
) -> tuple[jax.Array, jax.Array]:
    """Apply the layers with these stacked `states` and `operands` to x; return the last result, and that of each layer.

    Layers in a scan share their memory; on CPU, unrolled ones do not.
    """

    def body(x: jax.Array, layer: tuple[Any, Any]) -> tuple[jax.Array, jax.Array]:
        x = run(layer[0], x, layer[1])
        return x, x

    return jax.lax.scan(body, x, (states, operands))


def _masked(u: jax.Array, keep: jax.Array | None) -> jax.Array:
    return u if keep is None else u * keep.astype(u.dtype)


def _directions(mix: Callable[[jax.Array, Any, bool], jax.Array], operands: tuple[Any, Any]) -> tuple[Mix, Mix]:
    """Return the mixing functions of both directions."""
    forward, backward = operands
    return (lambda u: mix(u, forward, False)), (lambda u: mix(u, backward, True))


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the float32 mean `[B, H]` of x `[B, L, H]` over the positions where `mask` `[B, L]` is 1; 0 if none is."""
    weight = jnp.asarray(mask, jnp.float32)[..., None]
    return (x.astype(jnp.float32) * weight).sum(1) / jnp.maximum(weight.sum(1), 1)


class Pooler(nnx.Module):
    """Features of the hidden states → dense → tanh, giving `[B, H]`; `pooler_type` determines the features.

    `non_padding_mean`: the mean over the real tokens; `mean`: over every position; `pair`: the means u and v over the
    real tokens of both texts, |u − v| and u · v (Conneau et al. 2017, arXiv 1705.02364, §3.1).
    """

    def __init__(self, config: BiGSConfig, compute: Compute) -> None:
        self.type = config.pooler_type
        self.dense = Dense(config.hidden_size * (4 if self.type == "pair" else 1), config.hidden_size, compute)

    def __call__(self, x: jax.Array, attention_mask: jax.Array, token_type_ids: jax.Array | None) -> jax.Array:
        """Pool x `[B, L, H]`; the mean of no tokens is 0.

        `attention_mask` `[B, L]` is 1 at real tokens, and `token_type_ids` `[B, L]` 1 in the second text (None: there
        is none).
        """
        return jnp.tanh(self.dense(self.features(x, attention_mask, token_type_ids).astype(x.dtype)))

    def features(self, x: jax.Array, attention_mask: jax.Array, token_type_ids: jax.Array | None) -> jax.Array:
        """Return the input of the dense layer, float32 `[B, H]` or, for pairs, `[B, 4 H]`."""
        if self.type == "mean":
            return masked_mean(x, jnp.ones_like(attention_mask))
        if self.type == "non_padding_mean":
            return masked_mean(x, attention_mask)
        second = jnp.zeros_like(attention_mask) if token_type_ids is None else token_type_ids
        u, v = masked_mean(x, attention_mask * (second == 0)), masked_mean(x, attention_mask * (second != 0))
        return jnp.concatenate([u, v, jnp.abs(u - v), u * v], axis=-1)


class BiGS(nnx.Module):
    """Embeddings and encoder, with the pooler if the head needs it."""

    def __init__(self, config: BiGSConfig, compute: Compute, *, pooler: bool, unstacked: bool, rngs: nnx.Rngs) -> None:
        self.pad_token_id = config.pad_token_id
        self.masks_padding = config.mixer_masks_padding
        self.embeddings = Embeddings(config, compute, rngs=rngs)
        self.encoder = Encoder(config, compute, unstacked=unstacked, rngs=rngs)
        self.pooler = Pooler(config, compute) if pooler else None

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array | None = None,
        token_type_ids: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array | None, list[jax.Array]]:
        """Return the last hidden state `[B, L, H]`, the pooled state `[B, H]` (or None), and all hidden states.

        The mask defaults to "not [PAD]". The pooler uses it, and so do attention and, with `mask_padding`,
        SSMs. A `key` enables dropout. The hidden states are the embeddings and the output of each block.
        """
        if attention_mask is None:
            attention_mask = (input_ids != self.pad_token_id).astype(jnp.int32)
        embedded = self.embeddings(input_ids, token_type_ids, key)
        last, hidden = self.encoder(embedded, attention_mask if self.masks_padding else None)
        pooled = None if self.pooler is None else self.pooler(last, attention_mask, token_type_ids)
        return last, pooled, [embedded, *hidden]


@jax.custom_vjp
def _split_first_axis(stacked: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(stacked[i] for i in range(stacked.shape[0]))


def _split_forward(stacked: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
    return _split_first_axis(stacked), None


def _split_backward(_: None, gradients: tuple[jax.Array, ...]) -> tuple[jax.Array]:
    # JAX's own gradient pads each slice to the full stack and sums the results, which copies `depth` times as much.
    return (jnp.stack(gradients),)


_split_first_axis.defvjp(_split_forward, _split_backward)


def unstack(tree: Any, depth: int) -> list[Any]:
    """Split every array of `tree` along its leading axis of size `depth` into `depth` trees."""
    leaves, structure = jax.tree.flatten(tree)
    parts = [_split_first_axis(leaf) for leaf in leaves]
    return [structure.unflatten([part[i] for part in parts]) for i in range(depth)]
