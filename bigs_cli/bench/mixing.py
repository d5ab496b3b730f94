"""`bigs bench mixing`: the cost per token of each mixer at each length, the basis of `auto` in `models/mixers.py`.

Run as a script, it measures all mixers at one length, in turn.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from rich.table import Table

from bigs_cli.bench.child import run_child
from bigs_cli.bench.reference import ALL_MIXERS
from bigs_cli.models.ssm import SSMParameters, discretize, initial_state_matrix
from bigs_cli.reporting.console import table

LONGEST_DENSE = 4096
"""Maximum length measured with the dense mixer, whose matrix grows with the square of the length."""
_ROUNDS = 5


@dataclass(frozen=True)
class Measured:
    """A mixer at one length; nanoseconds per token and channel, in one direction."""

    mixer: str
    length: int
    batch: int
    forward_ns: float
    training_ns: float
    """Forward and backward pass, including the operands."""


def measure(names: Sequence[str], length: int, tokens: int, channels: int, states: int, dtype: str) -> list[Measured]:
    """Measure mixers on rows of `length` tokens, in batches of about `tokens` tokens.

    Raises:
        BigsError: a measurement failed.
    """
    batch = max(1, tokens // length)
    setting = {"names": list(names), "length": length, "batch": batch, "channels": channels, "states": states}
    times = json.loads(run_child("bigs_cli.bench.mixing", json.dumps({**setting, "dtype": dtype})))
    scale = 1e9 / (batch * length * channels)
    return [
        Measured(name, length, batch, forward * scale, training * scale) for name, (forward, training) in times.items()
    ]


def mixing_table(measured: Sequence[Measured], title: str) -> Table:
    """Return a table of training costs with one row per length, one column per mixer, and the cheapest mixer."""
    names = list(dict.fromkeys(one.mixer for one in measured))
    headers = tuple(f"{name} (ns)" for name in names)
    rows = table(title, "length", *headers, "cheapest", right=headers)
    for length in dict.fromkeys(one.length for one in measured):
        costs = {one.mixer: one.training_ns for one in measured if one.length == length}
        rows.add_row(
            f"{length:,}",
            *(f"{costs[name]:.2f}" if name in costs else "–" for name in names),
            min(costs, key=costs.__getitem__),
        )
    return rows


def _measure_length(
    names: Sequence[str], length: int, batch: int, channels: int, states: int, dtype: str
) -> dict[str, tuple[float, float]]:
    """Return the seconds (forward, training) of each mixer: medians over rounds, with the mixers in turn."""
    A_re, A_im = initial_state_matrix("hippo", states)
    keys = jax.random.split(jax.random.key(0))
    ssm = SSMParameters(
        jnp.asarray(A_re),
        jnp.asarray(A_im),
        jax.random.normal(keys[0], (states, 2)),
        jnp.ones(1),
        jnp.full(1, -2.0),
    )
    u = jax.random.normal(keys[1], (channels, batch, length), dtype)

    def passes(name: str) -> list[Callable[[], Any]]:
        def mix(ssm: SSMParameters, u: jax.Array) -> jax.Array:
            mixer = ALL_MIXERS[name]
            return mixer.mix(mixer.operands(discretize(ssm), length), u, False)

        forward = jax.jit(mix)
        training = jax.jit(jax.grad(lambda ssm, u: jnp.square(mix(ssm, u).astype(jnp.float32)).sum(), argnums=(0, 1)))
        return [lambda: forward(ssm, u), lambda: training(ssm, u)]

    running = {name: passes(name) for name in names}
    times: dict[str, list[list[float]]] = {name: [[], []] for name in names}
    for turn in range(_ROUNDS + 1):
        for name, both in running.items():
            for seconds, run in zip(times[name], both, strict=True):
                started = time.perf_counter()
                jax.block_until_ready(run())
                if turn:  # The first round compiles.
                    seconds.append(time.perf_counter() - started)
    return {name: (statistics.median(both[0]), statistics.median(both[1])) for name, both in times.items()}


if __name__ == "__main__":
    print(json.dumps(_measure_length(**json.loads(sys.argv[1]))))
