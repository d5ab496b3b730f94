"""How loading token shards scales with the size of the corpus: start-up, rate, memory.

What is measured of each size: the first verification, which reads all of the corpus; the time from starting Python to
the first batch, everything imported and the verification remembered, as in every later run on the same shards; the rate
of reading batches as fast as they come; and the memory that the process has of its own. Each measurement is a process
of its own (`load_probe.py`). The corpus has just been written, so that as much of it as fits is in memory.
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

_STARTS = 3  # of which the fastest counts, as of the stretches of reading: other work can only slow it down
_RANGE = 1000  # the largest corpus to the smallest


@dataclass(frozen=True)
class Measured:
    """A corpus of one size. Tokens are places in rows, padding included."""

    length: int
    tokens: int
    shards: int
    disk_bytes: int
    first_verification_s: float
    start_up_s: float
    """From starting Python to the first batch: the fastest of `start_ups_s`."""
    start_ups_s: tuple[float, ...]
    tokens_per_second: float
    """In the fastest of `rates`."""
    rates: tuple[float, ...]
    """Tokens per second, in equal stretches of time one after the other."""
    memory_bytes: int | None
    """The most private memory seen at the end of a stretch; None where the system does not tell."""


def corpus_sizes(largest: int, count: int) -> list[int]:
    """Return `count` ≥ 2 sizes in tokens, from a thousandth of `largest` to `largest`, all the same factor apart."""
    return [round(largest * _RANGE ** (i / (count - 1) - 1)) for i in range(count)]


def measure_sizes(
    rows: Rows,
    vocab_size: int,
    sizes: Sequence[int],
    batch_size: int,
    seconds: float,
    advance: Callable[[int], None] = lambda n: None,
) -> list[Measured]:
    """Measure corpora of so many tokens, in growing order, made by repeating `rows` `[n, L]`.

    Reads for `seconds` from each. Takes the disk space of the largest, and gives it back however this ends. `advance`
    is told of every size done.

    Raises:
        BigsError: a measuring process failed.
    """
    measured = []
    with tempfile.TemporaryDirectory(prefix="bigs-bench-") as name:
        folder = Path(name)
        corpus = GrowingCorpus(folder / "shards", rows, vocab_size)
        for tokens in sizes:
            manifest = corpus.grow(-(-tokens // corpus.length))
            cache = folder / f"cache-{tokens}"  # in which nothing is remembered yet
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
    """Run `load_probe.py` and return what it wrote, and `start_up_s`."""
    command = [sys.executable, "-m", "bigs_cli.bench.load_probe", str(folder), str(batch_size), str(seconds)]
    environment = os.environ | {"BIGS_CACHE": str(cache)}
    began = time.perf_counter()
    # In a session of its own, Ctrl-C does not reach the process, which would say so on the terminal: it is ended here.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True) as child:
        assert child.stdout is not None
        try:
            first = child.stdout.readline()
            start_up = time.perf_counter() - began
            rest = child.stdout.read()
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise BigsError(f"A measuring process failed (exit code {child.returncode}); what it said is above.")
    return {"start_up_s": start_up, **json.loads(first), **json.loads(rest)}


def figures(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return the figures of the sizes of one length for JSON, with ratios to the smallest corpus (the first)."""
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
    """Return how far the sizes of one length are from alike: the slowest of them, and its ratio to the smallest corpus.

    A start-up ratio of 1.1 is a tenth more time than with the smallest, a rate ratio of 0.9 a tenth fewer tokens.
    """
    sizes = figures(measured)
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
    """Return a table of the sizes of one length, one row each."""
    headers = ("tokens", "start-up (s)", "ratio", "tokens/s", "ratio ", "first verification (s)", "own memory (MB)")
    made = table(f"Rows of {measured[0].length} tokens, batches of {batch_size}", *headers, right=headers)
    for one in figures(measured):
        made.add_row(
            f"{one['tokens']:,}",
            f"{one['start_up_s']:.2f}",
            f"{one['start_up_ratio']:.2f}",
            f"{one['tokens_per_second']:,.0f}",
            f"{one['rate_ratio']:.2f}",
            f"{one['first_verification_s']:.2f}",
            f"{one['memory_bytes'] / 1e6:.0f}" if one["memory_bytes"] else "–",
        )
    return made


def summary_line(measured: Sequence[Measured]) -> str:
    """Return `flatness` as a sentence."""
    flat, times = flatness(measured), measured[-1].tokens / measured[0].tokens
    lowest, slowest = flat["lowest_tokens_per_second"] / 1e6, flat["slowest_stretch_tokens_per_second"] / 1e6
    return (
        f"Rows of {flat['length']}, corpora up to {times:,.0f} times the smallest: start-up at most "
        f"{flat['longest_start_up_s']:.2f} s, {flat['longest_start_up_ratio']:.2f} of the smallest's; loading at least "
        f"{lowest:.1f} million tokens/s, {flat['lowest_rate_ratio']:.2f} of the smallest's, and {slowest:.1f} in the "
        "slowest stretch of all."
    )
