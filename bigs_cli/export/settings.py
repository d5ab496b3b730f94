"""The types of an export: settings, formats and tools, batches, and the result."""

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
    """Settings of an export.

    `lengths` are row lengths in tokens for formats that fix them, `int8` adds ONNX files with 8-bit matrices, `dtype`
    is the type of the weights, and `license` appears on the model card.
    """

    lengths: tuple[int, ...] = ()
    int8: bool = False
    dtype: WeightType = "float32"
    license: str | None = None


class Inputs(NamedTuple):
    """A batch of int32 arrays `[B, L]` (multiple choice: `[B, choices, L]`)."""

    ids: Array
    mask: Array
    types: Array


Run = Callable[[Inputs], list[Array]]
"""Runs a batch and returns the outputs of the head, in the order of `forward.OUTPUTS`."""


class Readback(NamedTuple):
    """An exported file, loaded by its target tool. If `exact`, its outputs must equal those of the model."""

    file: str
    run: Run
    lengths: tuple[int, ...]
    exact: bool = True


@dataclass(frozen=True)
class Limit:
    """A limitation of the target tool of a format.

    `field` is the config field or setting that the tool ignores, `applies` tells whether this affects a model, and
    `message` describes the difference and a remedy, with config fields in braces.
    """

    field: str
    applies: Callable[[OpenModel, Settings], bool]
    message: str


@dataclass(frozen=True)
class Tool:
    """The target tool of a format, and its limitations.

    `reads` are the config fields that the tool supports fully. Any other field with a value other than the default
    causes a warning: that of its entry in `limits` or, without one, a general warning, as for fields added later.
    """

    name: str
    reads: frozenset[str]
    limits: tuple[Limit, ...]

    def warnings(self, model: OpenModel, settings: Settings) -> list[str]:
        """Return a warning for each property of `model` that the tool does not support."""
        values = model.config.model_dump()
        known = self.reads | {limit.field for limit in self.limits}
        defaults = BiGSConfig().model_dump()
        others = [name for name in values if name not in known and values[name] != defaults[name]]
        warnings = [limit.message.format(**values) for limit in self.limits if limit.applies(model, settings)]
        return warnings + [
            f"{name} is {values[name]}, which {self.name} does not read: its outputs differ. Use --format transformers."
            for name in others
        ]


@dataclass(frozen=True)
class Format:
    """An export format: functions that write it to a folder and read it back, and code that loads it.

    If `fixes_length`, its files take rows of certain lengths only; if `stores_dtype`, its weights can have 16 bits.
    `tool` is the target tool, if it has limitations.
    """

    name: str
    description: str
    write: Callable[[Path, OpenModel, Settings], None]
    read_back: Callable[[Path, OpenModel, Settings], Iterator[Readback]]
    snippet: str
    fixes_length: bool = False
    stores_dtype: bool = False
    tool: Tool | None = None


@dataclass
class Exported:
    """The result of an export: the relative difference of each file from the model, warnings and notes.

    `warnings` are sentences about outputs that differ from those of the model, or that are meaningless.
    """

    differences: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def inputs_of(model: OpenModel, length: int, rows: int = 2) -> Inputs:
    """Return random ids of pairs of texts; the last quarter of every row is padding."""
    config = model.config
    shape = (rows, 2, length) if config.has_choices else (rows, length)
    ids = np.random.default_rng(0).integers(1, config.vocab_size, shape).astype(np.int32)
    mask, types = np.ones_like(ids), np.zeros_like(ids)
    real = length - length // 4
    ids[..., real:], mask[..., real:] = config.pad_token_id, 0
    types[..., real // 2 : real] = min(1, config.type_vocab_size - 1)
    return Inputs(ids, mask, types)


def named_outputs(outputs: Any, names: tuple[str, ...]) -> list[Array]:
    """Return the arrays of `outputs` in the order of `names`."""
    return [np.asarray(outputs[name], np.float32) for name in names]
