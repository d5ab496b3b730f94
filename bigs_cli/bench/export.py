"""`bigs bench export`: forward passes of exported models, compared with bigs and BERT, with logits at every position.

Runners are measured in turn, each in a separate process. Runners whose packages are not installed are skipped.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from rich.table import Table

from bigs_cli.bench.bert import PACKAGES
from bigs_cli.bench.child import run_child
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.export.formats import export
from bigs_cli.export.settings import Settings
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import parameter_shapes
from bigs_cli.models.init import init_parameters
from bigs_cli.models.published import to_flat
from bigs_cli.reporting.console import table

RUNNERS: dict[str, tuple[str, ...]] = {
    "bigs": (),
    "stablehlo": (),
    "onnx": ("jax2onnx", "onnx", "onnxruntime"),
    "transformers": ("torch", "transformers"),
    "bert": PACKAGES,
}
"""Runners and the packages they need. `bert` is a BertForMaskedLM of the same H with at most as many parameters."""


@dataclass(frozen=True)
class Measured:
    """The forward pass of a runner; `relative` is the median over rounds of its time relative to the first runner."""

    runner: str
    seconds: float
    rounds_s: tuple[float, ...]
    tokens_per_second: float
    relative: float


def installed(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the runners of `names` whose packages are installed, and the missing packages of the others."""
    missing = {name: [package for package in RUNNERS[name] if find_spec(package) is None] for name in names}
    packages = sorted({package for packages in missing.values() for package in packages})
    return [name for name in names if not missing[name]], packages


def measure(
    config: BiGSConfig,
    names: Sequence[str],
    shape: tuple[int, int],
    rounds: int,
    folder: Path,
    advance: Callable[[int], None] = lambda n: None,
) -> list[Measured]:
    """Export an untrained model of `config` to `folder` and measure each runner on a batch of `shape` (length, batch).

    Raises:
        BigsError: an export or a measurement failed.
    """
    length, batch = shape
    flat = to_flat(init_parameters(parameter_shapes(config), config, 0), config)
    model = OpenModel("bench", config, {path: np.asarray(array) for path, array in flat.items()}, None, "bench")
    folders: dict[str, Path] = {}
    for name in names:
        form = {"bigs": "flax", "bert": None}.get(name, name)
        if form is not None:
            folders[name] = folder / form
            export(model, form, folders[name], Settings((length,) if form in ("onnx", "stablehlo") else ()))
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            arguments = {
                "runner": name,
                "folder": str(folders.get(name, folder)),
                "length": length,
                "batch": batch,
                "config": config.model_dump(),
            }
            times[name].append(json.loads(run_child("bigs_cli.bench.export_probe", json.dumps(arguments))))
            advance(1)
    first = times[names[0]]
    return [
        Measured(
            name,
            statistics.median(seconds),
            tuple(seconds),
            length * batch / statistics.median(seconds),
            statistics.median(mine / other for mine, other in zip(seconds, first, strict=True)),
        )
        for name, seconds in times.items()
    ]


def export_table(measured: Sequence[Measured], title: str) -> Table:
    """Return a table with one row per runner."""
    headers = ("forward (s)", f"relative to {measured[0].runner}", "tokens/s")
    rows = table(title, "runner", *headers, right=headers)
    for one in measured:
        rows.add_row(one.runner, f"{one.seconds:.3f}", f"{one.relative:.2f}", f"{one.tokens_per_second:,.0f}")
    return rows
