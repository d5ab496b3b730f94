"""How fast this machine multiplies matrices: what training is measured against. Found once, then remembered."""

from __future__ import annotations

import contextlib
import os
import time

import jax
import jax.numpy as jnp

from bigs_cli.core.cache import cache_root
from bigs_cli.core.environment import processor
from bigs_cli.core.files import parse_json, write_json
from bigs_cli.models.matmul import matmul

_SECONDS = 0.5  # of multiplying; the fastest product counts, so that what else the machine does hardly matters


def peak_flops(dtype: str) -> float:
    """Return the FLOPs per second of one device in large products of `dtype` (float32 at full precision).

    Measured if this machine's cache has none, which takes about a second.
    """
    device = jax.devices()[0]
    name = processor() if device.platform == "cpu" else device.device_kind
    key = f"{name}, {os.cpu_count()} cores, {dtype}" if device.platform == "cpu" else f"{name}, {dtype}"
    file = cache_root() / "matrix-rates.json"
    known: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError):
        read = parse_json(file.read_text(encoding="utf-8"))
        known = read if isinstance(read, dict) else {}
    rate = known.get(key)
    if not isinstance(rate, (int, float)) or rate <= 0:
        rate = measure_peak_flops(dtype)
        with contextlib.suppress(OSError):  # It is measured again next time.
            write_json(file, {**known, key: rate})
    return rate


def measure_peak_flops(dtype: str, seconds: float = _SECONDS) -> float:
    """Measure what `peak_flops` returns."""
    size = 1024 if jax.default_backend() == "cpu" else 8192
    multiply = jax.jit(lambda a: matmul(a, a, dtype="float32"))
    a = jnp.ones((size, size), dtype)
    multiply(a).block_until_ready()
    best, ends = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < ends:
        began = time.perf_counter()
        multiply(a).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
