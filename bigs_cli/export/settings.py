"""What a user may ask of an export, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from bigs_cli.checkpoint.arrays import Array
from bigs_cli.checkpoint.resolve import OpenModel

WeightType = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Settings:
    """`lengths`: tokens of a row, of formats that fix it; `int8`: ONNX with 8-bit matrices too; `dtype`: of weights."""

    lengths: tuple[int, ...]
    int8: bool = False
    dtype: WeightType = "float32"
    license: str | None = None


class Inputs(NamedTuple):
    """One batch, int32 `[B, L]` (multiple choice `[B, choices, L]`)."""

    ids: Array
    mask: Array
    types: Array


Run = Callable[[Inputs], list[Array]]
"""Runs one batch and returns a head's outputs, in the order of `forward.OUTPUTS`."""


class Readback(NamedTuple):
    """A file that was written, loaded by the tool it is for. `exact`: it has to agree with the model."""

    file: str
    run: Run
    lengths: tuple[int, ...]
    exact: bool = True


@dataclass(frozen=True)
class Format:
    """How a format is written into a folder, and read back from it.

    `fixes_length`: its files take rows of certain lengths; `stores_dtype`: its weights can be of 16 bits.
    """

    what: str
    write: Callable[[Path, OpenModel, Settings], None]
    read_back: Callable[[Path, OpenModel, Settings], Iterator[Readback]]
    snippet: str
    fixes_length: bool = False
    stores_dtype: bool = False


@dataclass
class Exported:
    """What came of an export: how far each file's outputs are from the model's, relative to the largest; sentences."""

    differences: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def inputs_of(model: OpenModel, length: int, rows: int = 2, seed: int = 0) -> Inputs:
    """Return random ids of two texts, the last quarter of every row padding."""
    config = model.config
    shape = (rows, 2, length) if config.head == "multiple-choice" else (rows, length)
    ids = np.random.default_rng(seed).integers(1, config.vocab_size, shape).astype(np.int32)
    mask, types = np.ones_like(ids), np.zeros_like(ids)
    real = length - length // 4
    ids[..., real:], mask[..., real:] = config.pad_token_id, 0
    types[..., real // 2 : real] = min(1, config.type_vocab_size - 1)
    return Inputs(ids, mask, types)


def named_outputs(outputs: Any, names: tuple[str, ...]) -> list[Array]:
    """Return the arrays of `outputs` in the order of `names`."""
    return [np.asarray(outputs[name], np.float32) for name in names]


def trained_length(model: OpenModel) -> int:
    """Return the tokens of a row in training, as far as that is known."""
    if model.run is not None and model.run.finished:
        return int(model.run.results().get("length") or model.config.max_position_embeddings)
    return model.config.max_position_embeddings
