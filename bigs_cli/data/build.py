"""Builds a folder of token shards from text sources: read, select, pack, write, count and publish."""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bigs_cli.core.error_messages import AGAIN, describe_disk_error
from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.files import write_json
from bigs_cli.data.documents import BadRecord
from bigs_cli.data.duplicates import TextsSeen, disk_error, texts_seen
from bigs_cli.data.manifest import MANIFEST, SPLITS, Counts, Manifest, Shard, Split, dtype_for
from bigs_cli.data.packing import check_packing, split_text
from bigs_cli.data.portions import PORTION, Portion, PortionRecord, block_starts
from bigs_cli.data.readers import LONGEST_TEXT
from bigs_cli.data.shard_writer import CorruptTemporaryFilesError, shard_writers
from bigs_cli.data.shards import open_shards
from bigs_cli.data.sources import Cursor, Part, find_parts, read_parts
from bigs_cli.data.staging import Progress, Request, Staging, resume_command, staging
from bigs_cli.data.tokenizer import fingerprint, load_tokenizer, save_tokenizer, special_ids
from bigs_cli.data.validation import ValidationRule, choose_validation_rule, text_digest
from bigs_cli.data.workers import Batch, pack_batches

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BATCH_CHARACTERS = 1 << 20
"""Number of characters packed at a time: enough to keep a process busy, with tens of MB of memory."""

SAVE_SECONDS = 2.0
"""Seconds between two saves of the progress."""

_SMALL = 1 << 23  # bytes of text; with less, starting processes takes longer than it saves


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build. Apart from `skip_bad`, they do not affect the bytes of the shards."""

    workers: int | None = None
    """Number of processes that pack rows; None: one per core that it may use, if there is enough text."""
    skip_bad: bool = False
    """Skip and count records that cannot be read, instead of raising an error."""
    resume: bool = False
    """Continue an interrupted build."""
    overwrite: bool = False
    """Replace existing shards in the output folder."""
    portion: Portion | None = None
    """Only read this portion of the text, and make shards that `portions.merge` joins with those of the others."""
    advance: Callable[[int], None] = lambda tokens: None
    """Called with the number of tokens of each batch."""
    say: Callable[[str], None] = lambda sentence: None
    """Called with notes: entries of a folder that are not read, or held-out text in units smaller than documents."""


def build_shards(
    request: Request, tokenizer: Callable[[ValidationRule], Tokenizer], output: Path, options: BuildOptions
) -> Manifest:
    """Write the shards of `request` into `output` and return their manifest.

    `tokenizer` is called with the rule that selects held-out text, unless the run to resume has saved its tokenizer.
    The previous content of the folder is kept until all shards are written.

    Raises:
        RequestError: the folder is in use, a record cannot be read, the run to resume has other settings, or a split
            would be empty.
        BigsError: a source or the disk failed. Call again with `resume` to continue.
    """
    if options.resume and (output / MANIFEST).is_file() and not Staging(output).folder.exists():
        manifest = open_shards(output).manifest
        if manifest.request != request.digest():
            raise RequestError(f"{output} contains shards made with other settings. Replace them with --overwrite.")
        return manifest
    check_packing(request.sequence_length, request.packing)
    parts = find_parts(request.sources, request.how, request.weights, options.say)
    portion = None if options.portion is None else options.portion.range_of(parts)
    with staging(output, resume=options.resume, overwrite=options.overwrite) as place:
        if place.finished:
            return place.publish()
        new = Progress(
            request=request,
            corpus=parts_digest(parts),
            directory=os.getcwd(),  # noqa: PTH109
            skip_bad=options.skip_bad,
            portion=str(options.portion or ""),
            # A part in the middle of a source need not have text.
            place=Cursor() if portion is None else Cursor(part=portion.start, found=portion.start > 0),
        )
        saved = place.progress()
        if saved is not None:
            _check_same(saved, new, output)
        with _resumable(place):
            if saved is None:
                rule = choose_validation_rule(lambda: texts_of(request, parts), request.heldout)
                if rule.unit != "documents":
                    options.say(
                        f"There are too few documents to hold out whole documents (--heldout {request.heldout}): whole "
                        f"{rule.unit} are held out instead."
                    )
                progress = new.model_copy(update={"validation": rule})
                chosen = tokenizer(rule)
                save_tokenizer(chosen, place.folder)
            else:
                progress = saved.model_copy(update={"skip_bad": options.skip_bad})
                chosen = load_tokenizer(place.folder)
            if not request.drop_duplicates:
                return _build(progress, parts, chosen, place, None, options)
            with texts_seen(place.folder / "seen.sqlite", progress.place) as seen:
                if portion is not None:
                    _add_earlier(seen, request, parts, portion.start)
                return _build(progress, parts, chosen, place, seen, options)


def _add_earlier(seen: TextsSeen, request: Request, parts: Sequence[Part], stop: int) -> None:
    """Add the texts of the parts before number `stop`, which the earlier portions have."""
    for _, _, after, record in _used_records(request, parts, Cursor(), stop=stop):
        if isinstance(record, str):
            seen.add(text_digest(record), after)


@contextlib.contextmanager
def _resumable(place: Staging) -> Iterator[None]:
    """Add to an error how to continue from the saved progress, if there is any."""
    try:
        yield
    except CorruptTemporaryFilesError:
        raise
    except BigsError as error:
        if place.progress() is None:
            raise
        raise type(error)(
            f"{error} The progress is saved. Continue with `{resume_command(place.output)}`. To use "
            "other files, repeat the original command with --overwrite."
        ) from error
    except (OSError, sqlite3.OperationalError) as error:
        kept = place.finished or place.progress() is not None
        then = f"and continue with `{resume_command(place.output)}`" if kept else AGAIN
        sentence = describe_disk_error(disk_error(error), place.output, then)
        if sentence is None:
            raise
        raise BigsError(sentence) from error


def _build(
    progress: Progress,
    parts: Sequence[Part],
    tokenizer: Tokenizer,
    place: Staging,
    seen: TextsSeen | None,
    options: BuildOptions,
) -> Manifest:
    before = time.monotonic() - progress.seconds
    request = progress.request
    length, dtype = request.sequence_length, dtype_for(tokenizer.get_vocab_size())
    workers = options.workers
    if workers is None:
        workers = 1 if sum(part.size for part in parts) < _SMALL else _usable_cores()
    counts, saved = progress.counts, time.monotonic()
    options.advance(counts.tokens)
    splits: dict[Split, tuple[Shard, ...]]
    with shard_writers(place.folder, dtype, length, progress.written) as writers:
        stop = None if options.portion is None else options.portion.range_of(parts).stop
        batches = _batches(progress, parts, seen, stop)
        for (where, read), packed in pack_batches(batches, tokenizer, length, request.packing, workers):
            for split, rows in packed.items():
                writers[split].write(rows.rows)
                read += rows.counts
                options.advance(rows.counts.tokens)
            counts += read
            if time.monotonic() - saved >= SAVE_SECONDS:
                if seen:
                    seen.save()
                written = {split: writer.flush() for split, writer in writers.items()}
                now = {"place": where, "counts": counts, "written": written, "seconds": time.monotonic() - before}
                place.save(progress.model_copy(update=now))
                saved = time.monotonic()
        splits = {split: writer.finish() for split, writer in writers.items()}
    seconds = time.monotonic() - before
    if options.portion is not None:
        record = PortionRecord(
            corpus=progress.corpus, unit=progress.rule.unit, heldout=request.heldout, seconds=seconds, counts=counts
        )
        write_json(place.folder / PORTION, record.model_dump(mode="json"))
    elif not splits["train"] or (request.heldout > 0 and not splits["heldout"]):
        raise RequestError(_too_little("heldout" if splits["train"] else "train", counts, request.packing.min_tokens))
    manifest = Manifest(
        sources=request.sources,
        sequence_length=length,
        dtype=dtype,
        vocab_size=tokenizer.get_vocab_size(),
        special_ids=special_ids(tokenizer),
        tokenizer=fingerprint(tokenizer),
        packing=request.packing,
        request=request.digest(),
        splits=splits,
        report=counts.report(length, seconds, progress.rule.unit),
    )
    return place.publish(manifest)


def _batches(
    progress: Progress, parts: Sequence[Part], seen: TextsSeen | None, stop: int | None
) -> Iterator[Batch[tuple[Cursor, Counts]]]:
    """Yield documents in batches of about `BATCH_CHARACTERS`, each with its counts and the cursor after it.

    No batch has text of two blocks. With `stop`, only the parts before that number are read.
    """
    texts, counts, size, place = _no_texts(), Counts(), 0, progress.place
    rule, used = progress.rule, progress.place.used
    starts = block_starts(parts)
    taken = progress.counts.records
    for part, before, after, record in _used_records(progress.request, parts, progress.place, taken, stop):
        if size and bisect.bisect(starts, after.part) != bisect.bisect(starts, place.part):
            yield Batch(texts, (place, counts))
            texts, counts, size = _no_texts(), Counts(), 0
        if isinstance(record, BadRecord):
            if not progress.skip_bad:
                raise RequestError(f"{record.message} To skip records that cannot be read, add --skip-bad")
            counts += Counts(bad=1)
            place = after
            continue
        text, place = record, after
        digest = text_digest(text)
        if seen and not seen.add(digest, after):
            counts += Counts(records=1, duplicates=1)
            continue
        pieces = _pieces(text, rule, copies(digest, part.weight))
        for number, (split, piece, counted) in enumerate(pieces[used:], start=used + 1):
            texts[split].append(piece)
            counts += counted + Counts(records=int(number == len(pieces)))
            size += len(piece)
            if size >= BATCH_CHARACTERS:
                here = place if number == len(pieces) else before.model_copy(update={"used": number})
                yield Batch(texts, (here, counts))
                texts, counts, size = _no_texts(), Counts(), 0
        used = 0
    yield Batch(texts, (place, counts))


def _used_records(
    request: Request, parts: Sequence[Part], start: Cursor, taken: int = 0, stop: int | None = None
) -> Iterator[tuple[Part, Cursor, Cursor, str | BadRecord]]:
    """Yield (part, cursor before, cursor after, text or bad record) from `start` on.

    Texts that the weight of their part selects zero times are left out. `taken` is the number of texts used before
    `start`. With `stop`, only the parts before that number are read.
    """
    place = start
    for part, after, record in read_parts(parts, start, stop):
        before, place = place, after
        if isinstance(record, BadRecord):
            yield part, before, after, record
            continue
        if request.limit_documents is not None and taken >= request.limit_documents:
            return
        text = record.encode("utf-8", "replace").decode()  # a lone surrogate is not text
        if copies(text_digest(text), part.weight):
            taken += 1
            yield part, before, after, text


def texts_of(request: Request, parts: Sequence[Part]) -> Iterator[str]:
    """Yield the texts that are used, from the beginning. Bad records are skipped; packing reports them."""
    for _, _, _, record in _used_records(request, parts, Cursor()):
        if isinstance(record, str):
            yield record


def _pieces(text: str, rule: ValidationRule, copies: int) -> list[tuple[Split, str, Counts]]:
    """Return the pieces of a document, each with its split and its counts.

    A long text is divided into several documents, so that batches have a bounded size; its copies may be in different
    batches.
    """
    units = rule.split(text)
    kept, held = map("".join, units)
    pieces: list[tuple[Split, str, Counts]] = []
    if kept.strip():
        pieces = [("train", piece, Counts(documents=1)) for piece in split_text(kept, LONGEST_TEXT)] * copies
    if held.strip():
        whole, alone = rule.unit == "documents", not pieces
        for number, piece in enumerate(split_text(held, LONGEST_TEXT)):
            counted = Counts(documents=1, heldout=1)
            if not whole:
                counted = Counts() if number else Counts(documents=int(alone), heldout=len(units[1]))
            pieces.append(("heldout", piece, counted))
    return pieces


def _usable_cores() -> int:
    """Return the number of cores that this process may use, which Slurm restricts."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _no_texts() -> dict[Split, list[str]]:
    return {split: [] for split in SPLITS}


def copies(digest: bytes, weight: float) -> int:
    """Return how many times a text is used, `weight` times on average. With 2.5, half of the texts are used twice and
    half three times.
    """
    return int(weight) + (int.from_bytes(digest[8:]) < weight % 1 * 2.0**64)


def parts_digest(parts: Sequence[Part]) -> str:
    """Return a digest of the names and sizes of all files."""
    return hashlib.sha256("\n".join(part.identity for part in parts).encode()).hexdigest()


def _check_same(saved: Progress, asked: Progress, output: Path) -> None:
    """Raise RequestError if the settings or the input files of `asked` differ from those of `saved`."""
    differing = saved.request.differences(asked.request)
    if not differing and saved.corpus != asked.corpus:
        differing = ["the names or sizes of the input files"]
    if differing:
        raise RequestError(
            f"{output} was started with other settings: {', '.join(differing)}. Continue with its original settings: "
            f"`{resume_command(output)}`, or repeat this command with --overwrite to start over."
        )


def _too_little(empty: Split, counts: Counts, min_tokens: int) -> str:
    if counts.documents <= counts.short:
        return f"None of the {counts.documents} documents is long enough for a row. Lower --min-tokens, or add text."
    part = "to train on" if empty == "train" else "to hold out"
    return (
        f"None of the text {part} is long enough for a row (--min-tokens {min_tokens}). Lower --min-tokens, change "
        "--heldout, or add text."
    )
