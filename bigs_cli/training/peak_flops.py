"""The peak FLOP/s of this machine, to which the throughput of training is compared. Measured once, then cached.

`python -m bigs_cli.training.peak_flops DTYPE` measures it again and prints it, for `bigs bench train`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

import jax
import jax.numpy as jnp

from bigs_cli.core.cache import cache_root
from bigs_cli.core.environment import processor
from bigs_cli.core.files import parse_json, write_json
from bigs_cli.models.matmul import matmul

_SECONDS = 0.5  # of measuring; the fastest product counts, so other programs have little influence


def peak_flops(dtype: str) -> float:
    """Return the FLOP/s of one device for large matrix products of `dtype` (float32 at full precision).

    The value comes from this machine's cache, or is measured, which takes about a second.
    """
    device = jax.devices()[0]
    name = processor() if device.platform == "cpu" else device.device_kind
    key = f"{name}, {os.cpu_count()} cores, {dtype}" if device.platform == "cpu" else f"{name}, {dtype}"
    file = cache_root() / "peak-flops.json"
    known: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError):
        cached = parse_json(file.read_text(encoding="utf-8"))
        known = cached if isinstance(cached, dict) else {}
    peak = known.get(key)
    if not isinstance(peak, (int, float)) or peak <= 0:
        peak = measure_peak_flops(dtype)
        with contextlib.suppress(OSError):  # The next run measures again.
            write_json(file, {**known, key: peak})
    return peak


def peak_tokens(dtype: str, row_flops: float, length: int) -> float:
    """Return the tokens per second at the peak FLOP/s of all devices, for rows of `length` tokens and `row_flops`."""
    return peak_flops(dtype) * jax.device_count() * length / row_flops


def measure_peak_flops(dtype: str, seconds: float = _SECONDS) -> float:
    """Measure the FLOP/s that `peak_flops` returns."""
    size = 1024 if jax.default_backend() == "cpu" else 8192
    multiply = jax.jit(lambda a: matmul(a, a, dtype="float32"))
    a = jnp.ones((size, size), dtype)
    multiply(a).block_until_ready()
    shortest, deadline = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        started = time.perf_counter()
        multiply(a).block_until_ready()
        shortest = min(shortest, time.perf_counter() - started)
    return 2 * size**3 / shortest


if __name__ == "__main__":
    print(measure_peak_flops(sys.argv[1], seconds=1.0))
