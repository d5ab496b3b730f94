"""`bigs bench train`: the time of a training step or a forward pass, compared with the original method and peak FLOP/s.

`reference` is the method of the original code (`reference.py`): FFT mixing, float32, logits at every position,
activations `[B, L, H]`. `bert-…` is BERT in PyTorch (`bert.py`). Every measurement is a separate process
(`train_probe.py`). The settings are measured in turn, so that other load on the machine affects all of them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from bigs_cli.bench.bert import PACKAGES
from bigs_cli.bench.child import run_child
from bigs_cli.core.errors import RequestError
from bigs_cli.models.config import BiGSConfig
from bigs_cli.recipe.groups import Compute
from bigs_cli.reporting.console import table

if TYPE_CHECKING:
    from bigs_cli.bench.train_probe import Setting

Method = Literal["bigs", "reference", "bert"]
PASSES = {"train": "Training step", "forward": "Forward pass", "encode": "Encoder"}
SETTINGS: dict[str, tuple[Method, Compute]] = {
    "reference": ("reference", Compute()),
    "float32": ("bigs", Compute()),
    "bfloat16": ("bigs", Compute(dtype="bfloat16")),
    "bert-float32": ("bert", Compute()),
    "bert-bfloat16": ("bert", Compute(dtype="bfloat16")),
}
OWN = ("reference", "float32", "bfloat16")
"""The settings that need no further packages."""


@dataclass(frozen=True)
class Measured:
    """The measurements of a setting at one shape."""

    setting: str
    length: int
    batch: int
    step_s: float
    """Median of `steps_s`."""
    steps_s: tuple[float, ...]
    """Median of each round."""
    compile_s: float
    peak_memory_bytes: int
    tokens_per_second: float
    flops: float
    """Floating-point operations of a step, by the formula for our method."""
    mfu: float
    """`flops / step_s` relative to the peak FLOP/s for the data type."""
    speedup: float
    """Speed-up over the first setting: the median over the rounds."""


def shape_of(text: str) -> tuple[int, int]:
    """Return (length, batch) from "128x16".

    Raises:
        RequestError: `text` has another form.
    """
    try:
        length, batch = map(int, text.lower().replace("×", "x").split("x"))
    except ValueError:
        length = batch = 0
    if length < 1 or batch < 1:
        raise RequestError(f"--shape {text} must be LENGTHxBATCH, such as 128x16.")
    return length, batch


def all_peak_flops(names: Sequence[str]) -> dict[str, float]:
    """Return the measured peak FLOP/s for each data type of the settings."""
    types = {SETTINGS[name][1].dtype for name in names}
    return {dtype: float(run_child("bigs_cli.training.peak_flops", dtype)) for dtype in sorted(types)}


def measure(
    model: BiGSConfig,
    peaks: Mapping[str, float],
    shape: tuple[int, int],
    pass_: Literal["train", "forward", "encode"],
    rounds: int,
    steps: int,
    profile: Path | None = None,
) -> list[Measured]:
    """Measure settings at a shape (length, batch). The first setting is the baseline of the speed-ups.

    `peaks` maps the names of the settings to the peak FLOP/s of their data types. A trace of each setting, in a round
    of its own that does not count, is written to a folder in `profile`.

    Raises:
        BigsError: a measurement failed.
    """
    from bigs_cli.bench.train_probe import Setting

    length, batch = shape
    head = "encoder" if pass_ == "encode" else "masked-lm"
    config = model.model_copy(update={"max_position_embeddings": length, "head": head})
    settings = {
        name: Setting(
            model=config,
            compute=compute,
            pass_=pass_,
            length=length,
            batch=batch,
            method=method,
            steps=steps,
        )
        for name in peaks
        for method, compute in [SETTINGS[name]]
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in peaks}
    for _ in range(rounds):
        for name, setting in settings.items():
            runs[name].append(_probe(setting))
    if profile is not None:
        for name, setting in settings.items():
            _probe(setting.model_copy(update={"profile": profile / f"{length}x{batch}-{name}"}))
    times = {name: [statistics.median(run["step_s"]) for run in measured] for name, measured in runs.items()}
    first = next(iter(times.values()))

    def result(name: str, runs: list[dict[str, Any]]) -> Measured:
        flops = runs[0]["flops"]
        step = statistics.median(times[name])
        return Measured(
            setting=name,
            length=length,
            batch=batch,
            step_s=step,
            steps_s=tuple(times[name]),
            compile_s=min(run["compile_s"] for run in runs),
            peak_memory_bytes=max(run["peak_memory_bytes"] for run in runs),
            tokens_per_second=length * batch / step,
            flops=flops,
            mfu=flops / step / peaks[name],
            speedup=statistics.median(a / b for a, b in zip(first, times[name], strict=True)),
        )

    return [result(*item) for item in runs.items()]


def train_table(measured: Sequence[Measured], title: str) -> Table:
    """Return a table with one row per shape and setting."""
    headers = ("step (s)", "speed-up", "tokens/s", "MFU", "memory (MB)", "compile (s)")
    rows = table(title, "shape", "setting", *headers, right=headers)
    for one in measured:
        rows.add_row(
            f"{one.length} × {one.batch}",
            one.setting,
            f"{one.step_s:.3f}",
            f"{one.speedup:.2f}",
            f"{one.tokens_per_second:,.0f}",
            f"{one.mfu:.0%}",
            f"{one.peak_memory_bytes / 1e6:,.0f}",
            f"{one.compile_s:.1f}",
        )
    return rows


def peer_settings(peer: str, settings: Sequence[str]) -> list[str]:
    """Return the settings of `peer` with the data types of other settings.

    Raises:
        RequestError: packages for it are not installed.
    """
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise RequestError(f"--peer {peer} needs {' and '.join(missing)}: pip install 'bigs[torch]'")
    return list(dict.fromkeys(f"{peer}-{SETTINGS[name][1].dtype}" for name in settings))


def _probe(setting: Setting) -> dict[str, Any]:
    return json.loads(run_child("bigs_cli.bench.train_probe", setting.model_dump_json()))
