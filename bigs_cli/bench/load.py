"""`bigs bench load`: how loading token shards scales with the size of the corpus.

For each size, the following are measured: the first verification, which reads the whole corpus; the time from the start
of Python to the first batch with a cached verification, as in every later run; the rate of reading batches; and the
private memory. Each measurement is a separate process (`load_probe.py`). The corpus was just written, so as much of it
as fits is in the page cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bigs_cli.bench.corpus import GrowingCorpus, Rows
from bigs_cli.core.errors import BigsError
from bigs_cli.reporting.console import table

_STARTS = 3  # The fastest is reported, because other load can only slow it down.
_RANGE = 1000  # ratio of the largest to the smallest corpus


@dataclass(frozen=True)
class Measured:
    """The measurements of one size of corpus. Tokens include padding."""

    length: int
    tokens: int
    shards: int
    disk_bytes: int
    first_verification_s: float
    start_up_s: float
    """Time from the start of Python to the first batch: the fastest of `start_ups_s`."""
    start_ups_s: tuple[float, ...]
    tokens_per_second: float
    """The highest of `rates`."""
    rates: tuple[float, ...]
    """Tokens per second in consecutive intervals of equal length."""
    memory_bytes: int | None
    """Maximum private memory at the end of an interval; None if it is unknown."""


def corpus_sizes(largest: int, count: int) -> list[int]:
    """Return `count` ≥ 2 sizes in tokens, from `largest` / 1000 to `largest`, in a geometric sequence."""
    return [round(largest * _RANGE ** (i / (count - 1) - 1)) for i in range(count)]


def measure_sizes(
    rows: Rows,
    vocab_size: int,
    sizes: Sequence[int],
    batch_size: int,
    seconds: float,
    advance: Callable[[int], None] = lambda n: None,
) -> list[Measured]:
    """Measure corpora of the ascending `sizes` in tokens, made by repeating `rows` `[n, L]`.

    Each is read for `seconds`. The corpora are removed at the end. `advance(1)` is called after each size.

    Raises:
        BigsError: a measurement failed.
    """
    measured = []
    with tempfile.TemporaryDirectory(prefix="bigs-bench-") as name:
        folder = Path(name)
        corpus = GrowingCorpus(folder / "shards", rows, vocab_size)
        for tokens in sizes:
            manifest = corpus.grow(-(-tokens // corpus.length))
            cache = folder / f"cache-{tokens}"  # new, so the first probe verifies the corpus
            first = _probe(corpus.folder, cache, batch_size, 0)
            starts = [_probe(corpus.folder, cache, batch_size, 0) for _ in range(_STARTS - 1)]
            starts.append(_probe(corpus.folder, cache, batch_size, seconds))
            measured.append(
                Measured(
                    length=corpus.length,
                    tokens=corpus.rows * corpus.length,
                    shards=len(manifest.splits["train"]),
                    disk_bytes=corpus.rows * manifest.row_bytes,
                    first_verification_s=first["verify_s"],
                    start_up_s=min(start["start_up_s"] for start in starts),
                    start_ups_s=tuple(start["start_up_s"] for start in starts),
                    tokens_per_second=max(starts[-1]["tokens_per_second"]),
                    rates=tuple(starts[-1]["tokens_per_second"]),
                    memory_bytes=starts[-1]["memory_bytes"],
                )
            )
            advance(1)
    return measured


def _probe(folder: Path, cache: Path, batch_size: int, seconds: float) -> dict[str, Any]:
    """Run `load_probe.py` and return its output with `start_up_s`."""
    command = [sys.executable, "-m", "bigs_cli.bench.load_probe", str(folder), str(batch_size), str(seconds)]
    environment = os.environ | {"BIGS_CACHE": str(cache)}
    started = time.perf_counter()
    # In a new session, Ctrl-C does not reach the child, which would print a traceback. It is killed below.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True) as child:
        assert child.stdout is not None
        try:
            first = child.stdout.readline()
            start_up = time.perf_counter() - started
            rest = child.stdout.read()
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise BigsError(f"A measurement failed (exit code {child.returncode}); its error is above.")
    return {"start_up_s": start_up, **json.loads(first), **json.loads(rest)}


def as_json(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return, for JSON, the measurements of all corpus sizes at one row length.

    They include the ratios to the smallest corpus, which comes first.
    """
    first = measured[0]
    return [
        asdict(one)
        | {
            "start_up_ratio": one.start_up_s / first.start_up_s,
            "rate_ratio": one.tokens_per_second / first.tokens_per_second,
        }
        for one in measured
    ]


def flatness(measured: Sequence[Measured]) -> dict[str, Any]:
    """Return the worst values over all corpus sizes at one row length, and their ratios to the smallest corpus.

    A start-up ratio of 1.1 is 10% more time than with the smallest corpus, a rate ratio of 0.9 is a 10% lower rate.
    """
    sizes = as_json(measured)
    return {
        "length": measured[0].length,
        "longest_start_up_s": max(one["start_up_s"] for one in sizes),
        "longest_start_up_ratio": max(one["start_up_ratio"] for one in sizes),
        "lowest_tokens_per_second": min(one["tokens_per_second"] for one in sizes),
        "lowest_rate_ratio": min(one["rate_ratio"] for one in sizes),
        "slowest_stretch_tokens_per_second": min(min(one.rates) for one in measured),
        "most_memory_bytes": max((one["memory_bytes"] for one in sizes if one["memory_bytes"]), default=None),
    }


def sizes_table(measured: Sequence[Measured], batch_size: int) -> Table:
    """Return a table with one row per size."""
    headers = ("tokens", "start-up (s)", "ratio", "tokens/s", "ratio ", "first verification (s)", "private memory (MB)")
    rows = table(f"Rows of {measured[0].length} tokens, batches of {batch_size}", *headers, right=headers)
    for one in as_json(measured):
        rows.add_row(
            f"{one['tokens']:,}",
            f"{one['start_up_s']:.2f}",
            f"{one['start_up_ratio']:.2f}",
            f"{one['tokens_per_second']:,.0f}",
            f"{one['rate_ratio']:.2f}",
            f"{one['first_verification_s']:.2f}",
            f"{one['memory_bytes'] / 1e6:.0f}" if one["memory_bytes"] else "–",
        )
    return rows


def summary_line(measured: Sequence[Measured]) -> str:
    """Return `flatness` as a sentence."""
    worst, times = flatness(measured), measured[-1].tokens / measured[0].tokens
    lowest, slowest = worst["lowest_tokens_per_second"] / 1e6, worst["slowest_stretch_tokens_per_second"] / 1e6
    return (
        f"Rows of {worst['length']} tokens, corpora up to {times:,.0f} times the smallest: start-up takes at most "
        f"{worst['longest_start_up_s']:.2f} s ({worst['longest_start_up_ratio']:.2f} times that of the smallest "
        f"corpus); loading reaches at least {lowest:.1f} million tokens/s ({worst['lowest_rate_ratio']:.2f} times that "
        f"of the smallest corpus), and {slowest:.1f} in the slowest interval."
    )
