"""Packing batches of documents in several processes, with the results in the order of the batches."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Generic, TypeVar

from bigs_cli.core.errors import BigsError
from bigs_cli.data.manifest import Packing, Split
from bigs_cli.data.packing import Packed, Packer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Note = TypeVar("Note")
_AHEAD = 2  # number of queued batches per process, so that no process waits


@dataclass(frozen=True)
class Batch(Generic[Note]):
    """Documents of each split, and a note that is returned with their rows."""

    documents: Mapping[Split, Sequence[str]]
    note: Note


def pack_batches(
    batches: Iterable[Batch[Note]], tokenizer: Tokenizer, sequence_length: int, packing: Packing, workers: int
) -> Iterator[tuple[Note, dict[Split, Packed]]]:
    """Yield the note and the rows of every batch, in order; the rows do not depend on `workers`.

    With one worker the batches are packed in this process, by the tokenizer's own threads.

    Raises:
        RequestError: the rows are too short for the packing.
        BigsError: a process died.
    """
    packer = Packer(tokenizer, sequence_length, packing)
    if workers == 1:
        for batch in batches:
            yield batch.note, _pack(packer, batch.documents)
        return
    pool = ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(tokenizer.to_str(), sequence_length, packing),
    )
    waiting: deque[tuple[Note, Future[dict[Split, Packed]]]] = deque()
    source = iter(batches)
    try:
        while True:
            for batch in itertools.islice(source, workers * _AHEAD - len(waiting)):
                waiting.append((batch.note, pool.submit(_pack_here, batch.documents)))
            if not waiting:
                return
            note, packed = waiting.popleft()
            yield note, packed.result()
    except BrokenProcessPool:
        raise BigsError(
            "A process that packs rows died, perhaps because it ran out of memory. Use fewer processes: --workers 1."
        ) from None
    finally:
        # Without waiting, the pool's thread that sends batches may print a traceback about its closed pipe.
        pool.shutdown(wait=True, cancel_futures=True)


def _pack(packer: Packer, documents: Mapping[Split, Sequence[str]]) -> dict[Split, Packed]:
    return {split: packer.pack(texts) for split, texts in documents.items() if texts}


_packer: Packer | None = None  # of this worker process, for all its batches


def _start(tokenizer: str, sequence_length: int, packing: Packing) -> None:
    """Set up a worker process: use one thread, ignore Ctrl-C, and end when the parent ends."""
    global _packer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from tokenizers import Tokenizer

    _packer = Packer(Tokenizer.from_str(tokenizer), sequence_length, packing)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _pack_here(documents: Mapping[Split, Sequence[str]]) -> dict[Split, Packed]:
    assert _packer is not None
    return _pack(_packer, documents)
