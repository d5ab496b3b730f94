"""Tokenization in portions, for example on several machines: the text of each portion, and merging their shards.

The files of the sources form blocks, which depend only on the names and sizes of the files, and a portion is a range of
blocks. No row has text of two blocks, so the shards do not depend on the number of portions. A file is never divided.

The shards of portion 3 of 64 are in `OUTPUT/.portions/00003-of-00064`, with `portion.json`, until they are merged.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from bigs_cli.core.errors import RequestError, listed
from bigs_cli.data.manifest import MANIFEST, SPLITS, Counts, Manifest, Shard, Split, ValidationUnit
from bigs_cli.data.shard_writer import shard_writers
from bigs_cli.data.shards import Shards, open_shards
from bigs_cli.data.sources import Part
from bigs_cli.data.staging import Request, Staging, staging

BLOCK_BYTES = 1 << 23
"""A block has at least this many bytes of text, as it is stored, if there is enough. Chosen by this project."""
PORTION = "portion.json"
_FOLDER = ".portions"
_NAME = re.compile(r"(\d{5})-of-(\d{5})")


@dataclass(frozen=True)
class Portion:
    """Portion `number` of `count`, from 1."""

    number: int
    count: int

    @staticmethod
    def parse(text: str) -> Portion:
        """Return the portion that is written as 3/64.

        Raises:
            RequestError: it is not written so, or the number is not from 1 to the count.
        """
        match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
        portion = Portion(*map(int, match.groups())) if match else Portion(0, 0)
        if not 1 <= portion.number <= portion.count:
            raise RequestError(f"--part {text} is not a part such as 3/64: the third of 64 parts.")
        return portion

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def folder(self, output: Path) -> Path:
        """Return the folder of the shards of this portion of those in `output`."""
        return output / _FOLDER / f"{self.number:05d}-of-{self.count:05d}"

    def range_of(self, parts: Sequence[Part]) -> range:
        """Return which of `parts` this portion has. All portions together have all of them, in order."""
        starts = [*block_starts(parts), len(parts)]
        ends = list(itertools.accumulate((part.size for part in parts), initial=0))
        # A block belongs to the portion in which its middle lies.
        middles = [(ends[start] + ends[stop]) / 2 for start, stop in itertools.pairwise(starts)]
        bounds = [ends[-1] * (self.number - 1) / self.count, ends[-1] * self.number / self.count]
        first = bisect.bisect_left(middles, bounds[0]) if self.number > 1 else 0
        last = bisect.bisect_left(middles, bounds[1]) if self.number < self.count else len(middles)
        return range(starts[first], starts[last])


def block_starts(parts: Sequence[Part]) -> list[int]:
    """Return the ascending indices of the parts that begin a block."""
    starts, size = [0], 0
    for number, part in enumerate(parts):
        if size >= BLOCK_BYTES:
            starts.append(number)
            size = 0
        size += part.size
    return starts if parts else []


class PortionRecord(BaseModel):
    """portion.json: what is needed to merge a portion besides its manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: str
    """A digest of the names and sizes of all files of the sources."""
    unit: ValidationUnit
    heldout: float
    """The fraction of the text to hold out."""
    seconds: float
    counts: Counts


def merge(output: Path, *, overwrite: bool = False, advance: Callable[[int], object] = lambda tokens: None) -> Manifest:
    """Merge the shards of all portions in `output`, remove the portions, and return the manifest.

    `advance` is called with the number of tokens of each file that is merged.

    Raises:
        RequestError: portions are missing, unfinished, corrupt or made with different settings; `output` has shards and
            `overwrite` is not given; or a split would be empty.
    """
    portions = _find(output)
    shards = [open_shards(portion.folder(output)) for portion in portions]
    records = [_read_record(portion.folder(output)) for portion in portions]
    _check_same(portions, shards, records)
    counts = sum((record.counts for record in records), Counts())
    first = shards[0].manifest
    width = first.sequence_length
    with staging(output, overwrite=overwrite) as place:
        for path in shards[0].folder.iterdir():
            if path.suffix in (".json", ".txt") and path.name not in (MANIFEST, PORTION):
                shutil.copy(path, place.folder / path.name)  # the tokenizer
        splits: dict[Split, tuple[Shard, ...]]
        with shard_writers(place.folder, first.dtype, width) as writers:
            for each in shards:
                for split in SPLITS:
                    for shard in each.manifest.splits.get(split, ()):
                        rows = _read(each.folder / shard.file, shard, first)
                        writers[split].write(rows)
                        advance(rows.size)
            splits = {split: writer.finish() for split, writer in writers.items()}
        if not splits["train"]:
            raise RequestError(
                "None of the text to train on is long enough for a row. Lower --min-tokens, or add text."
            )
        if records[0].heldout > 0 and not splits["heldout"]:
            raise RequestError("None of the text to hold out is long enough for a row. Change --heldout, or add text.")
        seconds = sum(record.seconds for record in records)
        report = counts.report(width, seconds, records[0].unit)
        manifest = place.publish(first.model_copy(update={"splits": splits, "report": report}))
    shutil.rmtree(output / _FOLDER)
    return manifest


def _read(file: Path, shard: Shard, manifest: Manifest) -> np.ndarray[Any, Any]:
    """Return the rows `[n, L]` of one file of a portion.

    Raises:
        RequestError: it was modified.
    """
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise RequestError(f"{file} was modified. Remove {file.parent} and make this part again.")
    return np.frombuffer(content, np.dtype(manifest.dtype).newbyteorder("<")).reshape(-1, manifest.sequence_length)


def check_count(output: Path, count: int) -> None:
    """Check that `output` has no portions, or some of `count` portions.

    Raises:
        RequestError: it has others.
    """
    if others := sorted({portion.count for portion in _portions(output)} - {count}):
        raise RequestError(
            f"{output / _FOLDER} has parts of {' and of '.join(map(str, others))}, not of {count}. Remove those "
            "that do not belong together."
        )


def count_in(output: Path) -> int | None:
    """Return the number of parts to which the portions in `output` belong; None if there are none.

    Raises:
        RequestError: they belong to different numbers.
    """
    if not (portions := _portions(output)):
        return None
    check_count(output, portions[0].count)
    return portions[0].count


def remove_others(output: Path, request: Request, corpus: str) -> None:
    """Remove the portions in `output`, that are corrupt, or were made with another request or corpus."""
    for portion in _portions(output):
        folder = portion.folder(output)
        try:
            if (progress := Staging(folder).progress()) is not None:
                made = progress.request.digest(), progress.corpus
            else:
                made = open_shards(folder).manifest.request, _read_record(folder).corpus
        except RequestError:
            made = None
        if made != (request.digest(), corpus):
            shutil.rmtree(folder)


def _portions(output: Path) -> list[Portion]:
    folder = output / _FOLDER
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [Portion(*map(int, match.groups())) for match in map(_NAME.fullmatch, names) if match]


def _find(output: Path) -> list[Portion]:
    """Return all portions in `output`.

    Raises:
        RequestError: there are none, some are missing, or their numbers differ.
    """
    portions = _portions(output)
    if not portions:
        raise RequestError(f"There are no parts to merge in {output}. Make them with: bigs tokenize … --part 1/8")
    count = portions[0].count
    check_count(output, count)
    there = {portion.number for portion in portions}
    if missing := [f"{number}/{count}" for number in range(1, count + 1) if number not in there]:
        raise RequestError(
            f"Parts are missing in {output}: {listed(missing)}. Make them with the same command and --part {missing[0]}"
        )
    return portions


def _read_record(folder: Path) -> PortionRecord:
    try:
        return PortionRecord.model_validate_json((folder / PORTION).read_bytes())
    except (OSError, ValidationError):
        raise RequestError(f"{folder / PORTION} is missing or corrupt. Make this part again.") from None


def _check_same(portions: Sequence[Portion], shards: Sequence[Shards], records: Sequence[PortionRecord]) -> None:
    """Raise RequestError if a portion was made with other settings or of other files than the first one."""

    def settings(number: int) -> tuple[object, ...]:
        manifest = shards[number].manifest
        return manifest.request, manifest.tokenizer, records[number].corpus, records[number].unit

    for number, portion in enumerate(portions):
        if settings(number) != settings(0):
            what = "of other files" if shards[number].manifest.request == shards[0].manifest.request else ""
            raise RequestError(
                f"Part {portion} was made {what or 'with other settings'} than part {portions[0]}. Make it again, with "
                f"the same command: remove {shlex.quote(str(shards[number].folder))} first."
            )
