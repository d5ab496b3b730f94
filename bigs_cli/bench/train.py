"""The time of a training step or a forward pass, compared with the original code's method and with the peak FLOPS.

`reference` computes as the original does (`reference.py`): FFT mixing, float32, the logits of all words at every
position, activations `[B, L, H]`. Every measurement is a process of its own (`train_probe.py`). The settings take
turns, so that other load on the machine affects all of them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from bigs_cli.bench.child import run_child
from bigs_cli.models.config import BiGSConfig
from bigs_cli.recipe.schema import Compute
from bigs_cli.reporting.console import table

if TYPE_CHECKING:
    from bigs_cli.bench.train_probe import Setting

REFERENCE = "reference"
PASSES = {"train": "Training step", "forward": "Forward pass", "encode": "Encoder"}
COMPUTES: dict[str, Compute] = {
    REFERENCE: Compute(),
    "float32": Compute(),
    "bfloat16": Compute(dtype="bfloat16"),
}


@dataclass(frozen=True)
class Measured:
    """One setting at one shape."""

    setting: str
    length: int
    batch: int
    step_s: float
    """The median over the rounds of each round's median."""
    steps_s: tuple[float, ...]
    """Each round's median."""
    compile_s: float
    peak_memory_bytes: int
    tokens_per_second: float
    flops: float
    """Operations of the step by the model's formula, those of our way of doing it."""
    share: float
    """Of the rate of matrix products in the setting's type."""
    speedup: float
    """How many times as fast as the reference: the median over the rounds."""


def shape_of(text: str) -> tuple[int, int]:
    """Return (length, batch) of "128x16"; raise ValueError if it is not of this form."""
    length, batch = text.lower().replace("×", "x").split("x")
    if int(length) < 1 or int(batch) < 1:
        raise ValueError(text)
    return int(length), int(batch)


def all_peak_flops(names: Sequence[str]) -> dict[str, float]:
    """Return the measured matrix products' operations per second for the types of the settings."""
    types = {COMPUTES[name].dtype for name in names}
    return {dtype: float(run_child("bigs_cli.bench.matrix", dtype)) for dtype in sorted(types)}


def measure(
    model: BiGSConfig,
    names: Sequence[str],
    shapes: Sequence[tuple[int, int]],
    pass_: Literal["train", "forward", "encode"],
    rounds: int,
    steps: int,
    rates: dict[str, float],
    advance: Callable[[int], None] = lambda n: None,
) -> list[Measured]:
    """Measure the settings `names`, the first of which the others are compared with, at shapes (length, batch).

    Raises:
        BigsError: a measuring process failed.
    """
    from bigs_cli.bench.train_probe import Setting

    measured = []
    for length, batch in shapes:
        head = "encoder" if pass_ == "encode" else "masked-lm"
        config = model.model_copy(update={"max_position_embeddings": length, "head": head})
        settings = {
            name: Setting(
                model=config,
                compute=COMPUTES[name],
                pass_=pass_,
                length=length,
                batch=batch,
                reference=name == REFERENCE,
                steps=steps,
            )
            for name in names
        }
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(rounds):
            for name, setting in settings.items():
                runs[name].append(_probe(setting))
                advance(1)
        first = [statistics.median(run["step_s"]) for run in runs[names[0]]]
        for name in names:
            times = [statistics.median(run["step_s"]) for run in runs[name]]
            flops = runs[name][0]["flops"]
            step = statistics.median(times)
            measured.append(
                Measured(
                    setting=name,
                    length=length,
                    batch=batch,
                    step_s=step,
                    steps_s=tuple(times),
                    compile_s=min(run["compile_s"] for run in runs[name]),
                    peak_memory_bytes=max(run["peak_memory_bytes"] for run in runs[name]),
                    tokens_per_second=length * batch / step,
                    flops=flops,
                    share=flops / step / rates[COMPUTES[name].dtype],
                    speedup=statistics.median(a / b for a, b in zip(first, times, strict=True)),
                )
            )
    return measured


def train_table(measured: Sequence[Measured], title: str) -> Table:
    """Return a table of the figures, one row a setting and shape."""
    headers = ("step (s)", "times as fast", "tokens/s", "share of matrix rate", "memory (MB)", "compile (s)")
    made = table(title, "shape", "setting", *headers, right=headers)
    for one in measured:
        made.add_row(
            f"{one.length} × {one.batch}",
            one.setting,
            f"{one.step_s:.3f}",
            f"{one.speedup:.2f}",
            f"{one.tokens_per_second:,.0f}",
            f"{one.share:.0%}",
            f"{one.peak_memory_bytes / 1e6:,.0f}",
            f"{one.compile_s:.1f}",
        )
    return made


def _probe(setting: Setting) -> dict[str, Any]:
    return json.loads(run_child("bigs_cli.bench.train_probe", setting.model_dump_json()))
