"""What a user may ask of an export, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from bigs_cli.checkpoints.arrays import Array
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.models.config import BiGSConfig

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
class Limit:
    """A difference between a model and what the tool that a format is written for computes from it.

    `about` is the config field or setting that the tool does not honour, `applies` whether that concerns a model, and
    `says` what differs and what to do, with config fields in braces.
    """

    about: str
    applies: Callable[[OpenModel, Settings], bool]
    says: str


@dataclass(frozen=True)
class Tool:
    """A tool that a format is written for, and what it cannot do.

    `reads` are the config fields that it honours at every value. Other fields are warned of where they have another
    value than the default, by their `limits` or, of a field without one, in general: so also of fields to come.
    """

    name: str
    reads: frozenset[str]
    limits: tuple[Limit, ...]

    def warnings(self, model: OpenModel, settings: Settings) -> list[str]:
        """Return a sentence for everything about `model` that the tool does not honour."""
        values = model.config.model_dump()
        known = self.reads | {limit.about for limit in self.limits}
        defaults = BiGSConfig().model_dump()
        others = [name for name in values if name not in known and values[name] != defaults[name]]
        made = [limit.says.format(**values) for limit in self.limits if limit.applies(model, settings)]
        return made + [
            f"{name} is {values[name]}, which {self.name} does not read: its outputs differ. Use --format transformers."
            for name in others
        ]


@dataclass(frozen=True)
class Format:
    """How a format is written into a folder, and read back from it.

    `fixes_length`: its files take rows of certain lengths; `stores_dtype`: its weights can be of 16 bits; `tool`: what
    it is written for, if that does not honour all of a model.
    """

    what: str
    write: Callable[[Path, OpenModel, Settings], None]
    read_back: Callable[[Path, OpenModel, Settings], Iterator[Readback]]
    snippet: str
    fixes_length: bool = False
    stores_dtype: bool = False
    tool: Tool | None = None


@dataclass
class Exported:
    """What came of an export: how far each file's outputs are from the model's, relative to the largest; sentences.

    `warnings` say where the outputs that users get are not, or cannot be, what they expect of the model.
    """

    differences: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
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
