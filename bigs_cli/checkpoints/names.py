"""The published parameter names, in one place: in the Flax files, in the Torch files and in training.

Three forms of the same parameters:

- *flat*: published Flax path → array, ``"s4_bert/encoder/layer/0/dv/kernel"``. Everything here meets in this
  form.
- *Torch state*: the port's names → array, ``"bigs.encoder.layer.0.dv.weight"``, dense kernels transposed.
- *tree*: what training holds, a nested dict whose ``encoder.layer`` leaves have a leading layer axis,
  ``tree["s4_bert"]["encoder"]["layer"]["dv"]["kernel"]`` `[layers, H, I]`.

Dense kernels are `[in, out]` in flat and tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from bigs_cli.checkpoints.arrays import Array, Flat
from bigs_cli.recipe.config import BiGSConfig, Head

Shape = tuple[int, ...]
Tree = dict[str, Any]

WORDS = "embeddings/word_embeddings/embedding"
POSITIONS = "embeddings/position_embeddings/embedding"
DECODER = "cls/predictions/decoder/kernel"

POOLED_HEADS: frozenset[Head] = frozenset(
    {"encoder", "sequence-classification", "multiple-choice", "next-sentence", "pretraining"}
)

_LAYER = re.compile(r"^(?P<before>(?:s4_bert/)?encoder/layer/)(?P<index>\d+)/(?P<after>.+)$")
_TORCH_LEAF = {"kernel": "weight", "embedding": "weight", "scale": "weight"}
_KERNEL_LEAVES = ("A_re", "A_im", "C", "log_step")


def prefix(head: Head) -> str:
    """Return what stands before the encoder's paths: nothing in a bare encoder, else ``"s4_bert/"``."""
    return "" if head == "encoder" else "s4_bert/"


def is_ssm(path: str) -> bool:
    """Say whether the parameter at the Flax `path` is one of a state-space model's."""
    return path.split("/")[-2:-1] in (["fs4"], ["bs4"])


def expected_shapes(config: BiGSConfig) -> dict[str, Shape]:
    """Return the shape of every parameter of a model with `config`, by Flax path."""
    encoder = dict(_encoder(config))
    return {prefix(config.head) + path: shape for path, shape in encoder.items()} | dict(_head(config))


def optional_paths(config: BiGSConfig) -> set[str]:
    """Return the paths a file may lack: the pooler of a bare encoder, which some writers leave out."""
    return {"pooler/dense/kernel", "pooler/dense/bias"} if config.head == "encoder" else set()


def completed(flat: Flat, config: BiGSConfig) -> Flat:
    """Return `flat` with zeros for the optional parameters it lacks."""
    shapes = expected_shapes(config)
    absent = {path: np.zeros(shapes[path], np.float32) for path in optional_paths(config) - flat.keys()}
    return {**flat, **absent}


def _encoder(config: BiGSConfig) -> Iterator[tuple[str, Shape]]:
    hidden, inner, states = config.hidden_size, config.intermediate_size, config.num_ssm
    yield WORDS, (config.vocab_size, hidden)
    yield POSITIONS, (config.max_position_embeddings, hidden)
    yield "embeddings/token_type_embeddings/embedding", (config.type_vocab_size, hidden)
    yield from _norm("embeddings/LayerNorm", hidden)
    for index in range(config.num_hidden_layers):
        layer = f"encoder/layer/{index}"
        yield from _norm(f"{layer}/LayerNorm", hidden)
        for ssm in ("fs4", "bs4"):
            yield f"{layer}/{ssm}/A_re", (states,)
            yield f"{layer}/{ssm}/A_im", (states,)
            yield f"{layer}/{ssm}/C", (states, 2)
            yield f"{layer}/{ssm}/D", (1,)
            yield f"{layer}/{ssm}/log_step", (1,)
        yield from _dense(f"{layer}/dv", hidden, inner)
        for name in ("du_forward", "du_backward", "duc_forward", "duc_backward"):
            yield from _dense(f"{layer}/{name}", hidden, hidden)
        yield from _dense(f"{layer}/dol", hidden, inner)
        yield from _dense(f"{layer}/do", inner, hidden)
    if config.head in POOLED_HEADS:
        yield from _dense("pooler/dense", hidden, hidden)


def _head(config: BiGSConfig) -> Iterator[tuple[str, Shape]]:
    hidden = config.hidden_size
    if config.head in ("masked-lm", "pretraining"):
        yield from _dense("cls/predictions/transform/dense", hidden, hidden)
        yield from _norm("cls/predictions/transform/LayerNorm", hidden)
        yield "cls/predictions/bias", (config.vocab_size,)
        if not config.tie_word_embeddings:
            yield DECODER, (hidden, config.vocab_size)
    if config.head in ("next-sentence", "pretraining"):
        yield from _dense("cls/seq_relationship", hidden, 2)
    if config.head in ("sequence-classification", "token-classification"):
        yield from _dense("classifier", hidden, config.num_labels)
    if config.head == "multiple-choice":
        yield from _dense("classifier", hidden, 1)
    if config.head == "question-answering":
        yield from _dense("qa_outputs", hidden, 2)


def _dense(path: str, inputs: int, outputs: int) -> Iterator[tuple[str, Shape]]:
    yield f"{path}/kernel", (inputs, outputs)
    yield f"{path}/bias", (outputs,)


def _norm(path: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{path}/scale", (width,)
    yield f"{path}/bias", (width,)


def guess_head(names: Iterable[str]) -> Head | None:
    """Return the head that Flax or Torch `names` belong to; None for a classifier: several heads have one."""
    tops = {"/".join(re.split(r"[./]", name)[:2]) for name in names}
    roots = {top.split("/")[0] for top in tops}
    if {"cls/predictions", "cls/seq_relationship"} <= tops:
        return "pretraining"
    if "cls/predictions" in tops:
        return "masked-lm"
    if "cls/seq_relationship" in tops:
        return "next-sentence"
    if "qa_outputs" in roots:
        return "question-answering"
    return "encoder" if "encoder" in roots else None


# --- the Torch port -----------------------------------------------------------------------------------------


def torch_name(path: str) -> str:
    """Return the Torch port's name of the parameter at the Flax `path`."""
    *parents, leaf = path.split("/")
    if parents and parents[0] == "s4_bert":
        parents[0] = "bigs"
    if parents[-1] in ("fs4", "bs4"):
        return ".".join([*parents, "kernel", leaf] if leaf in _KERNEL_LEAVES else [*parents, leaf])
    return ".".join([*parents, _TORCH_LEAF.get(leaf, leaf)])


def to_torch(flat: Mapping[str, Array], config: BiGSConfig) -> Flat:
    """Return the Torch port's state dict: `flat` renamed, dense kernels transposed (views, not copies).

    The MLM bias and the tied word embedding stand twice, as the port writes them, and so do the position ids
    `[1, max_position_embeddings]` int64. A pooler is there only when the head uses one.
    """
    state: Flat = {torch_name(path): _turned(path, array) for path, array in flat.items()}
    encoder = "" if config.head == "encoder" else "bigs."
    state[f"{encoder}embeddings.position_ids"] = np.arange(config.max_position_embeddings, dtype=np.int64)[None]
    if "cls.predictions.bias" in state:
        state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
        state.setdefault("cls.predictions.decoder.weight", state["bigs.embeddings.word_embeddings.weight"])
    return state


def from_torch(state: Flat, config: BiGSConfig) -> Flat:
    """Return `state` under Flax paths, kernels turned back (views); consumes `state`.

    Names that no parameter of `config` has keep their Torch name, for the caller to report. Left out are the
    position ids, which are no weight, and the second copies of the MLM bias and of the tied word embedding
    (a `decoder.weight` that differs from the embedding is kept, and so is reported).
    """
    encoder = "" if config.head == "encoder" else "bigs."
    state.pop(f"{encoder}embeddings.position_ids", None)
    if "cls.predictions.decoder.bias" in state:
        state["cls.predictions.bias"] = state.pop("cls.predictions.decoder.bias")
    words, decoder = (
        state.get("bigs.embeddings.word_embeddings.weight"),
        state.get("cls.predictions.decoder.weight"),
    )
    if config.tie_word_embeddings and words is not None and decoder is not None and np.array_equal(words, decoder):
        del state["cls.predictions.decoder.weight"]
    paths = {torch_name(path): path for path in expected_shapes(config)}
    flat: Flat = {}
    for name in list(state):
        path = paths.get(name)
        flat[path or name] = _turned(path, state.pop(name)) if path else state.pop(name)
    return flat


def _turned(path: str, array: Array) -> Array:
    """Dense kernels are `[in, out]` in Flax and `[out, in]` in Torch; all else is stored alike."""
    return array.T if path.endswith("/kernel") else array


# --- the training tree --------------------------------------------------------------------------------------


def to_tree(flat: Flat, config: BiGSConfig) -> Tree:
    """Return the nested dict with stacked layers; **consumes** `flat`.

    Each array leaves `flat` as it is copied into its stack, so that the peak is one copy of the model and one
    array.
    """
    stacked: Flat = {}
    for path in list(flat):
        leaf = flat.pop(path)
        match = _LAYER.match(path)
        if match is None:
            stacked[path] = leaf
            continue
        target = match["before"] + match["after"]
        if target not in stacked:
            stacked[target] = np.empty((config.num_hidden_layers, *leaf.shape), leaf.dtype)
        stacked[target][int(match["index"])] = leaf
    return nested(stacked)


def to_apart(flat: Flat) -> Tree:
    """Return the nested dict of JAX arrays with one tree a layer, numbered by integers; **consumes** `flat`."""
    import jax.numpy as jnp

    apart: Tree = {}
    for path in list(flat):
        *above, name = path.split("/")
        place: dict[Any, Any] = apart
        for key in above:
            place = place.setdefault(int(key) if key.isdigit() else key, {})
        place[name] = jnp.asarray(flat.pop(path))
    return apart


def to_flat(tree: Mapping[str, Any], config: BiGSConfig) -> Flat:
    """Return the flat form of a training `tree` of NumPy or JAX arrays (a layer is a view of its stack)."""
    leaves = dict(unnested(tree))
    absent_is_fine = optional_paths(config)
    flat: Flat = {}
    for path in expected_shapes(config):
        match = _LAYER.match(path)
        source = path if match is None else match["before"] + match["after"]
        if source not in leaves and path in absent_is_fine:
            continue
        leaves[source] = np.asarray(leaves[source])
        flat[path] = leaves[source] if match is None else leaves[source][int(match["index"])]
    return flat


def nested(flat: Mapping[str, Any]) -> Tree:
    """Return `flat` as nested dicts, one level for each ``/``."""
    tree: Tree = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[name] = leaf
    return tree


def unnested(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, leaf) of nested dicts, the keys joined with ``/``."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from unnested(value, f"{above}{name}/")
        else:
            yield above + name, value
