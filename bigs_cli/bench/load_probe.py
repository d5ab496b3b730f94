"""What `bigs bench load` starts afresh for each measurement: open shards, verify them, and read batches.

Writes two lines of JSON: one when it has the first batch, one when it has read on for the time it was given.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bigs_cli.data.corpus import Batch
from bigs_cli.data.loader import train_batches
from bigs_cli.data.shards import open_shards
from bigs_cli.data.verify import verify

STRETCHES = 10
"""Of time, for each of which the rate is told: a single rate says nothing about what else the machine did."""


def private_memory() -> int | None:
    """Return the bytes of memory that are this process's own; None where the system does not tell (not Linux).

    Anonymous memory: what Python, libraries and batches take. Mapped shards are not in it: their pages belong to the
    system, which keeps as many as it has room for and drops them when it needs the room.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), None)


def main(folder: str, batch_size: str, seconds: str) -> None:
    """Measure the shards in `folder` in batches of so many rows, reading on for `seconds` after the first batch."""
    shards = open_shards(folder)
    began = time.perf_counter()
    verify(shards)
    verified = time.perf_counter()
    batches = train_batches(shards.split("train"), int(batch_size), seed=0)
    next(batches)
    print(json.dumps({"verify_s": verified - began}), flush=True)
    rates, memory = [], [private_memory()]
    for _ in range(STRETCHES):
        rates.append(_rate(batches, float(seconds) / STRETCHES))
        memory.append(private_memory())
    print(json.dumps({"tokens_per_second": rates, "memory_bytes": max((m for m in memory if m), default=None)}))


def _rate(batches: Iterator[Batch], seconds: float) -> float:
    """Return the tokens (places in rows) per second of reading batches for so long, one at least."""
    tokens, began = 0, time.perf_counter()
    while not tokens or time.perf_counter() - began < seconds:
        tokens += next(batches)["input_ids"].size
    return tokens / (time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
