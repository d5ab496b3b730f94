"""The published parameter names: in the Flax files, in the PyTorch port, and in the tree used in training.

The PyTorch port is that of the original Flax code; both are in github.com/jxiw/BiGS. There are three forms of the same
parameters:

- *flat*: published Flax path → array, ``"s4_bert/encoder/layer/0/dv/kernel"``. All conversions start or end here.
- *Torch state*: name in the PyTorch port → array, ``"bigs.encoder.layer.0.dv.weight"``, dense kernels transposed.
- *tree*: the nested dict used in training, whose ``encoder.layer`` leaves have a leading layer axis,
  ``tree["s4_bert"]["encoder"]["layer"]["dv"]["kernel"]`` `[layers, H, I]`.

Dense kernels are `[in, out]` in the flat form and the tree. The attributes of the NNX modules have the published Flax
names, so paths and shapes come from the modules; only the Torch names need a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from bigs_cli.models.config import BiGSConfig, Head
from bigs_cli.models.functional import parameter_shapes

Array = np.ndarray[Any, np.dtype[Any]]
Flat = dict[str, Array]
Shape = tuple[int, ...]
Tree = dict[str, Any]

WORDS = "embeddings/word_embeddings/embedding"
POSITIONS = "embeddings/position_embeddings/embedding"
DECODER = "cls/predictions/decoder/kernel"

# Flax path → Torch name: apply these substitutions in order, then replace "/" by ".".
TORCH_NAMES: tuple[tuple[str, str], ...] = (
    (r"^s4_bert/", "bigs/"),
    (r"/([fb]s4)/(A_re|A_im|C|log_step)$", r"/\1/kernel/\2"),
    (r"/(kernel|embedding|scale)$", "/weight"),
)

_LAYER = re.compile(r"^(?P<before>(?:s4_bert/)?encoder/layer/)(?P<index>\d+)/(?P<after>.+)$")
_STACKED = re.compile(r"^(?P<before>(?:s4_bert/)?encoder/layer/)(?P<after>.+)$")


def prefix(head: Head) -> str:
    """Return the prefix of the paths of the encoder: empty for a bare encoder, else ``"s4_bert/"``."""
    return "" if head == "encoder" else "s4_bert/"


def is_ssm(path: str) -> bool:
    """Return whether the parameter at the Flax `path` belongs to an SSM."""
    return path.split("/")[-2:-1] in (["fs4"], ["bs4"])


def published_shapes(config: BiGSConfig) -> dict[str, Shape]:
    """Return published path → shape of every parameter of a model with `config`, layer by layer."""
    return dict(_published_shapes(config))  # pyright: ignore[reportArgumentType] - a frozen model is hashable


@cache
def _published_shapes(config: BiGSConfig) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    layers: list[tuple[str, str, Shape]] = []
    for path, leaf in unnested(parameter_shapes(config)):
        stack = _STACKED.match(path)
        if stack is None:
            shapes[path] = leaf.shape
        else:
            layers.append((stack["before"], stack["after"], leaf.shape[1:]))
    for index in range(config.num_hidden_layers):
        shapes |= {f"{before}{index}/{after}": shape for before, after, shape in layers}
    return shapes


def optional_paths(config: BiGSConfig) -> set[str]:
    """Return the paths that a file may lack: the pooler of a bare encoder, which some programs do not save."""
    return {"pooler/dense/kernel", "pooler/dense/bias"} if config.head == "encoder" else set()


def completed(flat: Flat, config: BiGSConfig) -> Flat:
    """Return `flat` with zeros for the optional parameters it lacks."""
    shapes = published_shapes(config)
    absent = {path: np.zeros(shapes[path], np.float32) for path in optional_paths(config) - flat.keys()}
    return {**flat, **absent}


def guess_head(names: Iterable[str]) -> Head | None:
    """Return the head that has the Flax or Torch `names`; None for a classifier, which several heads have."""
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


# --- the PyTorch port -----------------------------------------------------------------------------------------


def torch_name(path: str) -> str:
    """Return the PyTorch port's name of the parameter at the published Flax `path`."""
    for pattern, replacement in TORCH_NAMES:
        path = re.sub(pattern, replacement, path)
    return path.replace("/", ".")


def to_torch(flat: Mapping[str, Array], config: BiGSConfig) -> Flat:
    """Return the PyTorch port's state dict: `flat` renamed, dense kernels transposed (views, not copies).

    As in the port, the MLM bias and the tied word embedding are stored twice, and the position ids
    `[1, max_position_embeddings]` int64 are included. There is a pooler only if the head uses one.
    """
    state: Flat = {torch_name(path): _transposed(path, array) for path, array in flat.items()}
    encoder = "" if config.head == "encoder" else "bigs."
    state[f"{encoder}embeddings.position_ids"] = np.arange(config.max_position_embeddings, dtype=np.int64)[None]
    if "cls.predictions.bias" in state:
        state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
        state.setdefault("cls.predictions.decoder.weight", state["bigs.embeddings.word_embeddings.weight"])
    return state


def from_torch(state: Flat, config: BiGSConfig) -> Flat:
    """Return `state` by Flax path, kernels transposed back (views); consumes `state`.

    The position ids and the second copies of the MLM bias and of the tied word embedding are dropped. Unknown names and
    a `decoder.weight` that differs from the embedding are kept, so that the caller can report them.
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
    paths = {torch_name(path): path for path in published_shapes(config)}
    flat: Flat = {}
    for name in list(state):
        path = paths.get(name)
        flat[path or name] = _transposed(path, state.pop(name)) if path else state.pop(name)
    return flat


def _transposed(path: str, array: Array) -> Array:
    """Transpose a dense kernel, which is `[in, out]` in Flax and `[out, in]` in Torch; keep other arrays unchanged."""
    return array.T if path.endswith("/kernel") else array


# --- the training tree --------------------------------------------------------------------------------------


def to_tree(flat: Flat, config: BiGSConfig) -> Tree:
    """Return the nested dict with stacked layers; **consumes** `flat`.

    Each array is removed from `flat` after it is copied into its stack, so the peak memory is one copy of the model and
    one array.
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


def to_unstacked(flat: Flat) -> Tree:
    """Return the nested dict of JAX arrays with one tree per layer, keyed by integers; **consumes** `flat`."""
    tree: Tree = {}
    for path in list(flat):
        *parents, name = path.split("/")
        branch: dict[Any, Any] = tree
        for key in parents:
            branch = branch.setdefault(int(key) if key.isdigit() else key, {})
        branch[name] = jnp.asarray(flat.pop(path))
    return tree


def to_flat(tree: Mapping[str, Any], config: BiGSConfig) -> Flat:
    """Return the flat form of a training `tree` of NumPy or JAX arrays (a layer is a view of its stack)."""
    leaves = dict(unnested(tree))
    optional = optional_paths(config)
    flat: Flat = {}
    for path in published_shapes(config):
        match = _LAYER.match(path)
        source = path if match is None else match["before"] + match["after"]
        if source not in leaves and path in optional:
            continue
        leaves[source] = np.asarray(leaves[source])
        flat[path] = leaves[source] if match is None else leaves[source][int(match["index"])]
    return flat


def nested(flat: Mapping[str, Any]) -> Tree:
    """Return `flat` as nested dicts, one level per ``/``."""
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
