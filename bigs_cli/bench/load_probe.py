"""One measurement of `bigs bench load`, run as a separate process: opens shards, verifies them and reads batches.

Prints two lines of JSON: one after the first batch, and one at the end.
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

_INTERVALS = 10
"""Number of intervals whose rates are reported, to show the effect of other load on the machine."""


def private_memory() -> int | None:
    """Return the anonymous memory of this process in bytes; None if it is unknown (not Linux).

    This excludes memory-mapped shards, whose pages the system can drop at any time.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), None)


def main(folder: str, batch_size: str, seconds: str) -> None:
    """Measure the shards in `folder`, reading batches of `batch_size` rows for `seconds` after the first one."""
    shards = open_shards(folder)
    started = time.perf_counter()
    verify(shards)
    verified = time.perf_counter()
    batches = train_batches(shards.split("train"), int(batch_size), seed=0)
    next(batches)
    print(json.dumps({"verify_s": verified - started}), flush=True)
    rates, memory = [], [private_memory()]
    for _ in range(_INTERVALS):
        rates.append(_rate(batches, float(seconds) / _INTERVALS))
        memory.append(private_memory())
    print(json.dumps({"tokens_per_second": rates, "memory_bytes": max((m for m in memory if m), default=None)}))


def _rate(batches: Iterator[Batch], seconds: float) -> float:
    """Return the tokens per second, including padding, of reading at least one batch for `seconds`."""
    tokens, started = 0, time.perf_counter()
    while not tokens or time.perf_counter() - started < seconds:
        tokens += next(batches)["input_ids"].size
    return tokens / (time.perf_counter() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
