"""`bigs bench tokenize`: speed and memory of `bigs tokenize`, compared with the tokenizer library on the same text.

The library is measured in a loop over `encode_batch`, with the text in pieces of a few lines so that all threads are
busy; only these calls are timed, not reading. `bigs tokenize` is measured as a whole command, including the start of
Python and its workers, reading, decompression, sentence splitting, packing, hashing and writing. Both are measured in
turn.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from bigs_cli.bench.child import run_child
from bigs_cli.core.errors import BigsError
from bigs_cli.data.build import BATCH_CHARACTERS
from bigs_cli.data.manifest import MANIFEST
from bigs_cli.data.packing import split_text
from bigs_cli.data.sources import read_documents
from bigs_cli.data.tokenizer import load_tokenizer
from bigs_cli.reporting.console import table

_SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Measured:
    """The measurements for the text repeated `times` times. Rates are medians over the rounds."""

    times: int
    tokens: int
    alone_tokens_per_second: float
    """The library alone: `encode_batch` in a loop, without reading the text."""
    ours_tokens_per_second: float
    """The whole command `bigs tokenize`."""
    ratio: float
    """`ours_tokens_per_second / alone_tokens_per_second`: the median over the rounds."""
    ratios: tuple[float, ...]
    peak_memory_bytes: int | None
    """Total of all processes of `bigs tokenize`, with shared pages counted once; None if it is unknown."""


def measure(inputs: Sequence[str], vocab: str, length: int, workers: int, repeats: int, rounds: int) -> Measured:
    """Measure the text of `inputs`, repeated `repeats` times, in rows of `length` tokens; medians over `rounds`.

    Raises:
        BigsError: a measurement failed; its error is on stderr.
    """
    text = [*inputs] * repeats
    alone, ours, ratios, peaks, tokens = [], [], [], [], 0
    for _ in range(rounds):
        alone.append(_alone(text, vocab, workers))
        tokens, rate, peak = _ours(text, vocab, length, workers)
        ours.append(rate)
        peaks.append(peak)
        ratios.append(rate / alone[-1])
    return Measured(
        times=repeats,
        tokens=tokens,
        alone_tokens_per_second=statistics.median(alone),
        ours_tokens_per_second=statistics.median(ours),
        ratio=statistics.median(ratios),
        ratios=tuple(ratios),
        peak_memory_bytes=max((peak for peak in peaks if peak), default=None),
    )


def tokenize_table(measured: Sequence[Measured], workers: int) -> Table:
    """Return a table with one row per size of the text."""
    headers = ("text", "tokens", "tokenizer alone (tokens/s)", "bigs tokenize (tokens/s)", "ratio", "peak memory (MB)")
    rows = table(f"Tokenizing with {workers} processes", *headers, right=headers)
    for one in measured:
        rows.add_row(
            f"{one.times} ×",
            f"{one.tokens:,}",
            f"{one.alone_tokens_per_second:,.0f}",
            f"{one.ours_tokens_per_second:,.0f}",
            f"{one.ratio:.2f}",
            f"{one.peak_memory_bytes / 1e6:.0f}" if one.peak_memory_bytes else "–",
        )
    return rows


def _alone(inputs: Sequence[str], vocab: str, threads: int) -> float:
    """Return the tokens/s of the tokenizer library, in a new process, because it sets its number of threads once."""
    written = run_child("bigs_cli.bench.tokenize", vocab, *inputs, RAYON_NUM_THREADS=str(threads))
    return float(json.loads(written)["tokens_per_second"])


def _ours(inputs: Sequence[str], vocab: str, length: int, workers: int) -> tuple[int, float, int | None]:
    """Run `bigs tokenize`; return the number of tokens, tokens/s, and the peak memory in bytes."""
    with tempfile.TemporaryDirectory(prefix="bigs-bench-") as name:
        command = [sys.executable, "-m", "bigs_cli", "tokenize", "--vocab", vocab, "--length", str(length)]
        command += [word for source in inputs for word in ("--input", source)]
        command += ["--heldout", "0", "--workers", str(workers), "--output", name]
        started, peak = time.perf_counter(), None
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
            try:
                while running.poll() is None:
                    peak = max((used for used in (peak, _memory(running.pid)) if used), default=None)
                    time.sleep(_SAMPLE_SECONDS)
            except BaseException:
                running.kill()
                raise
            seconds = time.perf_counter() - started
            message = running.stderr.read() if running.stderr else ""
        if running.returncode:
            raise BigsError(f"bigs tokenize failed: {message.strip()}")
        report = json.loads(Path(name, MANIFEST).read_text(encoding="utf-8"))["report"]
    return report["tokens"], report["tokens"] / seconds, peak


def _memory(pid: int) -> int | None:
    """Return the memory of a process and its descendants in bytes, with shared pages counted once (Linux only)."""
    total = 0
    for member in _with_descendants(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:  # The process has ended, or this is not Linux.
            continue
        total += next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
    return total or None


def _with_descendants(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return
    for child in children:
        yield from _with_descendants(int(child))


def _pieces(inputs: Sequence[str]) -> Iterator[list[str]]:
    """Yield the text as lists of pieces, each about as long as a batch of `bigs tokenize`."""
    pieces: list[str] = []
    size = 0
    for document in read_documents(inputs):
        pieces.extend(split_text(document, 1 << 13))
        size += len(document)
        if size >= BATCH_CHARACTERS:
            yield pieces
            pieces, size = [], 0
    if pieces:
        yield pieces


def _encode_alone(vocab: str, *inputs: str) -> None:
    """Encode all text of `inputs` with the tokenizer library, and print its tokens per second as JSON."""
    tokenizer = load_tokenizer(vocab)
    tokens, seconds = 0, 0.0
    for pieces in _pieces(inputs):
        started = time.perf_counter()
        encodings = tokenizer.encode_batch(pieces, add_special_tokens=False)
        seconds += time.perf_counter() - started
        tokens += sum(map(len, encodings))
    print(json.dumps({"tokens_per_second": tokens / seconds}))


if __name__ == "__main__":
    _encode_alone(*sys.argv[1:])
