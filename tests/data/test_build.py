"""Building shards: selection and counts of documents and rows, and resuming an interrupted build."""

import json
import os

import numpy as np
import pytest

from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.files import locked
from bigs_cli.data import build as module
from bigs_cli.data.build import BuildOptions, build_shards
from bigs_cli.data.manifest import Packing
from bigs_cli.data.packing import Packer
from bigs_cli.data.readers import ReadOptions
from bigs_cli.data.shard_writer import ShardWriter
from bigs_cli.data.shards import open_shards
from bigs_cli.data.staging import Request
from bigs_cli.data.tokenizer import fingerprint
from bigs_cli.data.validation import is_heldout
from tests.data.conftest import make_documents

L = 16


def write(path, documents):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return path


@pytest.fixture
def text(tmp_path, documents):
    return write(tmp_path / "text.jsonl", documents)


def build(output, tokenizer, *sources, weights=None, **options):
    names = ("drop_duplicates", "limit_documents", "heldout", "packing", "how")
    settings = {"heldout": 0.2, "packing": Packing()} | {n: options.pop(n) for n in names if n in options}
    request = Request(
        sources=tuple(map(str, sources)),
        weights=tuple(weights or [1.0] * len(sources)),
        vocabulary=fingerprint(tokenizer),
        sequence_length=L,
        **settings,
    )
    return build_shards(request, lambda rule: tokenizer, output, BuildOptions(**options))


def content(folder):
    """Return the bytes of all files in a folder, without the time and speed of the build."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(files["manifest.json"])
    manifest["report"] |= {"seconds": 0, "tokens_per_second": 0}
    return files | {"manifest.json": manifest}


def test_shards_contain_the_packed_rows_and_the_manifest_describes_them(tmp_path, documents, tokenizer, text):
    manifest = build(tmp_path / "new" / "out", tokenizer, text)
    shards = open_shards(tmp_path / "new" / "out")
    assert shards.manifest == manifest
    held = [is_heldout(document, 0.2) for document in documents]
    packer = Packer(tokenizer, L, Packing())
    for split, wanted in (("train", False), ("heldout", True)):
        packed = packer.pack([document for document, is_held in zip(documents, held, strict=True) if is_held is wanted])
        rows = shards.split(split)
        np.testing.assert_array_equal(rows.take(np.arange(len(rows)))["input_ids"], packed.rows)
    whole, report = packer.pack(documents), manifest.report
    assert (report.documents, report.heldout_documents, report.short_documents) == (60, sum(held), 0)
    counts = whole.counts
    assert (report.tokens, report.sentences, report.sequences) == (counts.tokens, counts.sentences, len(whole.rows))
    assert report.fill_rate == pytest.approx((whole.rows != 0).mean())
    assert report.unknown_rate == 0
    assert fingerprint(shards.tokenizer()) == manifest.tokenizer
    assert sorted(path.name for path in shards.folder.iterdir()) == [
        "heldout-00000.bin", "manifest.json", "tokenizer.json", "tokenizer_config.json", "train-00000.bin",
        "vocab.txt",
    ]  # fmt: skip


def test_the_bytes_do_not_depend_on_workers_or_batches(tmp_path, tokenizer, text, monkeypatch):
    build(tmp_path / "a", tokenizer, text, workers=1)
    build(tmp_path / "b", tokenizer, text, workers=2)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 300)
    build(tmp_path / "c", tokenizer, text, workers=2)
    assert content(tmp_path / "a") == content(tmp_path / "c")


class Crash(Exception):
    """Ends a build at a chosen moment."""


@pytest.mark.parametrize("packing", [Packing(), Packing(split="tokens", cross_documents=True)])
def test_a_resumed_build_has_the_bytes_of_an_uninterrupted_one(tmp_path, tokenizer, monkeypatch, packing):
    """The build is interrupted repeatedly, at every batch: before and after saving, and during writing."""
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 1500)
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    one, two = make_documents(40, seed=1), make_documents(40, seed=2)
    sources = (write(tmp_path / "a.jsonl", [*one, *two[:5]]), write(tmp_path / "b.jsonl", [*two, *one[:5]]))
    options = {"packing": packing, "drop_duplicates": True, "weights": (1.5, 1.0), "limit_documents": 90}
    build(tmp_path / "whole", tokenizer, *sources, **options)
    left = 0

    def countdown(tokens):
        nonlocal left
        left -= 1
        if left < 0:
            raise Crash

    times = 0
    while not (tmp_path / "parts" / "manifest.json").exists():
        left, times = 3, times + 1
        try:
            build(tmp_path / "parts", tokenizer, *sources, **options, resume=True, advance=countdown)
        except Crash:
            continue
    assert times > 8
    assert content(tmp_path / "parts") == content(tmp_path / "whole")
    assert open_shards(tmp_path / "parts").manifest.report.duplicate_documents >= 5


def begin(output, tokenizer, *sources, monkeypatch, **options):
    """Leave an unfinished build in `output`."""
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 1500)
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    calls = iter(range(8))

    def crash(tokens):
        if next(calls, None) is None:
            raise Crash

    with pytest.raises(Crash):
        build(output, tokenizer, *sources, advance=crash, **options)
    assert (output / ".partial" / "progress.json").exists()


def test_an_unfinished_build_is_neither_read_nor_overwritten(tmp_path, tokenizer, text, monkeypatch):
    out = tmp_path / "out"
    begin(out, tokenizer, text, monkeypatch=monkeypatch)
    with pytest.raises(RequestError, match=r"token shards in .*unfinished.*`bigs tokenize --resume --output .*out`"):
        open_shards(out)
    with pytest.raises(RequestError, match=r"unfinished tokenization\. Continue with `bigs tokenize --resume"):
        build(out, tokenizer, text)
    with pytest.raises(RequestError, match=r"started with other settings: packing, heldout\. Continue"):
        build(out, tokenizer, text, heldout=0.1, packing=Packing(min_tokens=3), resume=True)
    build(out, tokenizer, text, overwrite=True)
    begin(tmp_path / "again", tokenizer, text, monkeypatch=monkeypatch)
    write(text, make_documents(61))
    with pytest.raises(RequestError, match="the names or sizes of the input files"):
        build(tmp_path / "again", tokenizer, text, resume=True)
    (tmp_path / "again" / ".partial" / "progress.json").write_text("{")
    with pytest.raises(RequestError, match=r"progress\.json is corrupt"):
        build(tmp_path / "again", tokenizer, text, resume=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [("train-00000.bin", b""), ("seen.sqlite", b"not a database" * 99)],
    ids=["shard", "texts seen"],
)
def test_a_corrupt_draft_cannot_be_resumed(tmp_path, tokenizer, text, monkeypatch, name, content):
    out = tmp_path / "out"
    begin(out, tokenizer, text, monkeypatch=monkeypatch, drop_duplicates=True)
    (out / ".partial" / name).write_bytes(content)
    with pytest.raises(RequestError, match=rf"{name} is .*with --overwrite instead of --resume\.$"):
        build(out, tokenizer, text, drop_duplicates=True, resume=True)
    build(out, tokenizer, text, drop_duplicates=True, overwrite=True)


def test_progress_is_kept_after_an_error(tmp_path, documents, tokenizer, text, monkeypatch):
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 1500)
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    with text.open("a") as file:
        file.write("{bad\n")
    with pytest.raises(RequestError, match=r"jsonl:61 is not JSON.*--skip-bad.*Continue with `bigs tokenize --resume"):
        build(tmp_path / "out", tokenizer, text)
    report = build(tmp_path / "out", tokenizer, text, resume=True, skip_bad=True).report
    assert (report.documents, report.bad_records) == (60, 1)


def test_resuming_a_finished_or_missing_build(tmp_path, tokenizer, text):
    first = build(tmp_path / "out", tokenizer, text, resume=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert build(tmp_path / "out", tokenizer, text, resume=True) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    with pytest.raises(RequestError, match="made with other settings"):
        build(tmp_path / "out", tokenizer, text, heldout=0.1, resume=True)


@pytest.mark.parametrize("moved", range(5))
def test_a_crash_while_files_are_moved_into_place(tmp_path, tokenizer, text, monkeypatch, moved):
    out = tmp_path / "out"
    build(out, tokenizer, write(tmp_path / "old.jsonl", make_documents(9, seed=5)))
    (out / "train-00007.bin").write_bytes(b"an old shard more than there are new ones")
    build(tmp_path / "whole", tokenizer, text)
    replace, calls = type(out).replace, iter(range(moved))

    def breaking(path, target):
        if path.parent.name == ".partial" and target.parent == out and next(calls, None) is None:
            raise Crash
        return replace(path, target)

    monkeypatch.setattr(type(out), "replace", breaking)
    with pytest.raises(Crash):
        build(out, tokenizer, text, overwrite=True)
    monkeypatch.undo()
    build(out, tokenizer, text, resume=True)
    assert content(out) == content(tmp_path / "whole")


def test_only_one_process_can_build(tmp_path, tokenizer, text):
    (tmp_path / "out" / ".partial").mkdir(parents=True)
    with (
        locked(tmp_path / "out" / ".partial" / "lock"),
        pytest.raises(RequestError, match="Another process is writing"),
    ):
        build(tmp_path / "out", tokenizer, text)
    build(tmp_path / "out", tokenizer, text)


def test_a_folder_in_use_is_refused_and_an_error_changes_nothing(tmp_path, documents, tokenizer, text):
    broken = tmp_path / "broken.jsonl"
    broken.write_text(text.read_text() + "{bad")
    with pytest.raises(RequestError, match=r"broken\.jsonl:61 is not JSON.*--skip-bad"):
        build(tmp_path / "a" / "b", tokenizer, broken)
    assert not (tmp_path / "a").exists()
    out = tmp_path / "out"
    build(out, tokenizer, text)
    before = content(out)
    with pytest.raises(RequestError, match=r"another --output, .*--overwrite"):
        build(out, tokenizer, text)
    with pytest.raises(RequestError, match="is not JSON"):
        build(out, tokenizer, broken, overwrite=True)
    assert content(out) == before
    assert build(out, tokenizer, broken, overwrite=True, skip_bad=True).report.bad_records == 1
    assert build(out, tokenizer, text, overwrite=True, limit_documents=40).report.documents == 40
    with pytest.raises(RequestError, match="is a URL"):
        build(type(out)("s3://bucket/shards"), tokenizer, text)


def test_a_full_disk_is_reported(tmp_path, tokenizer, text, monkeypatch):
    def full(self, rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ShardWriter, "write", full)
    with pytest.raises(BigsError, match=r"disk of .*out is full"):
        build(tmp_path / "out", tokenizer, text)
    assert not (tmp_path / "out").exists()


def test_duplicates_weights_and_bad_records_are_counted(tmp_path, documents, tokenizer, text):
    again = write(tmp_path / "again.jsonl", [*documents[:7], "Another river."])
    report = build(tmp_path / "a", tokenizer, text, again, drop_duplicates=True).report
    assert (report.documents, report.duplicate_documents) == (61, 7)
    assert build(tmp_path / "b", tokenizer, text, again).report.documents == 68
    held = sum(is_heldout(document, 0.2) for document in documents)
    thrice = build(tmp_path / "c", tokenizer, text, weights=(3.0,)).report
    assert (thrice.documents, thrice.heldout_documents) == (3 * (60 - held) + held, held)
    many = write(tmp_path / "many.jsonl", (f"River number {i}." for i in range(2000)))
    half = build(tmp_path / "d", tokenizer, many, weights=(0.5,), heldout=0.0).report
    assert abs(half.documents - 1000) < 100
    more = build(tmp_path / "e", tokenizer, many, weights=(1.5,), heldout=0.0).report
    assert more.documents == 2000 + half.documents


def test_long_texts_and_many_copies_do_not_enlarge_batches(tmp_path, documents, tokenizer, text, monkeypatch):
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 2000)
    monkeypatch.setattr(module, "LONGEST_TEXT", 500)
    sizes, pack = [], module.pack_batches
    monkeypatch.setattr(
        module,
        "pack_batches",
        lambda batches, *rest: pack((sizes.append(sum(map(len, b.documents["train"]))) or b for b in batches), *rest),
    )
    report = build(tmp_path / "a", tokenizer, text, weights=(9.0,), heldout=0.0).report
    assert max(sizes) < 2500
    assert report.documents > 9 * 60
    whole = Packer(tokenizer, L, Packing()).pack(documents)
    assert report.tokens >= 9 * whole.counts.tokens, "nothing is lost, and a cut word may be two"


def test_documents_of_a_text_file(tmp_path, documents, tokenizer):
    file = tmp_path / "a.txt"
    file.write_text("\n".join(" ".join(document.split()) for document in documents))
    how = ReadOptions(text_documents="line")
    assert build(tmp_path / "out", tokenizer, file, how=how).report.documents == 60


def test_lone_surrogates_are_replaced(tmp_path, tokenizer):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "the river \\ud83d and the stone"}\n')
    assert build(tmp_path / "out", tokenizer, file, heldout=0.0).report.documents == 1


def test_an_empty_split_is_refused(tmp_path, documents, tokenizer):
    two = write(tmp_path / "two.jsonl", documents[:2])
    short = write(tmp_path / "one.jsonl", ["stone", "the old river falls"])
    with pytest.raises(RequestError, match=r"None of the text to hold out is long enough for a row \(--min-tokens 2"):
        build(tmp_path / "out", tokenizer, short, heldout=1e-9)
    with pytest.raises(RequestError, match="long enough"):
        build(tmp_path / "out", tokenizer, write(tmp_path / "short.jsonl", ["a", "the"]))
    assert not (tmp_path / "out").exists()
    build(tmp_path / "out", tokenizer, two, heldout=0)
    with pytest.raises(RequestError, match="no heldout rows"):
        open_shards(tmp_path / "out").split("heldout")


def test_without_workers_one_process_per_usable_core_packs(text, tokenizer, tmp_path, monkeypatch):
    """A task of Slurm may use fewer cores than the machine has."""
    started = []
    pack = module.pack_batches

    def spy(*arguments):
        started.append(arguments[-1])
        return pack(*arguments[:-1], 1)

    monkeypatch.setattr(module, "_SMALL", 0)
    monkeypatch.setattr(module, "pack_batches", spy)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    build(tmp_path / "out", tokenizer, text)
    assert started == [3]
