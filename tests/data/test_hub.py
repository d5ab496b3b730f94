"""Data sets on the hub as text, streamed from a fake hub on the loopback interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.data.hub_reading import ADDRESSES, LINES, MANY, MEMORY, jsonl, read, whole, write
from tests.hub_server import Hub


def test_rows_of_every_file_format(start: Any) -> None:
    got = read(
        start,
        {"repo": "many"},
        {"repo": "lines"},
        {"repo": "lines", "skip": 2990},
        {"repo": "lines", "revision": "v1"},
        {"repo": "configs", "config": "20231101.en"},
        {"repo": "configs", "config": "20231101.en", "split": "validation"},
        {"repo": "configs", "config": "20231101.de", "text_column": "text", "skip": 1},
        {"repo": "configs", "config": "20231101.de", "skip": 2},
        {"repo": "rows"},
        {"repo": "rows", "skip": 1, "text_column": "text"},
        {"repo": "array"},
        {"repo": "plain"},
    )
    assert got == [
        whole([*MANY[::2], *MANY[1::2]]),
        whole(LINES),
        whole(LINES[2990:]),
        whole(LINES[:5]),
        whole(["one", "two"]),
        whole(["three"]),
        whole(["zwei"]),
        whole([]),
        whole(["first", "second, quoted", "third"]),
        whole(["second, quoted", "third"]),
        whole(["first", "second"]),
        whole(["first\n", "second\n", "\n", "third"]),
    ]


def test_unreadable_records_are_reported_and_skipped(start: Any) -> None:
    at = "hf://datasets/someone"
    mixed, after, numbers, broken, rest = read(
        start,
        {"repo": "mixed"},
        {"repo": "mixed", "skip": 5},
        {"repo": "numbers"},
        {"repo": "damaged"},
        {"repo": "damaged", "skip": 27},
    )
    assert mixed[0][:3] == [
        "a",
        f"BAD {at}/mixed/train.jsonl:2: the column 'text' contains a value of type int, not text.",
        "",
    ]
    assert mixed[0][3].startswith(f"BAD {at}/mixed/train.jsonl:4 is not UTF-8 (invalid start byte).")
    assert mixed[0][4].startswith(f"BAD {at}/mixed/train.jsonl:5 is not JSON (")
    assert mixed[0][5:] == [
        f"BAD {at}/mixed/train.jsonl:7: the column 'text' contains a value of type list, not text.",
        "c",
    ]
    assert (mixed[3], after[0]) == (None, mixed[0][5:])
    rows = [
        f"BAD {at}/numbers/train.parquet, row {row}: the column 'text' contains a value of type int, not text."
        for row in (1, 2)
    ]
    assert numbers[0] == rows
    assert (broken[0], broken[1], broken[3]) == (LINES[:10], 41, None)
    for row, message in zip((28, 29, 30), rest[0], strict=False):  # numbers of records include skipped ones
        assert message.startswith(f"BAD {at}/damaged/data/train-0.parquet, row {row}: the file is corrupt (")
    assert (rest[0][3:], rest[1]) == (LINES[30:37], 14)


def test_only_the_rows_that_are_read_are_downloaded(hub: Hub, start: Any) -> None:
    size = sum(len(text) for text in MANY) // 2
    assert read(start, {"repo": "many", "first": 10}) == [whole(MANY[:20:2])]
    assert hub.bytes_sent("train-1.parquet") == 0
    assert hub.bytes_sent("train-0.parquet") < 0.75 * size  # a block of 5 MiB is read ahead
    hub.sent.clear()
    titles = {"repo": "many", "text_column": "title", "skip": 1990, "first": 2}
    rest, (named, *_) = read(start, {"repo": "many", "skip": 3990}, titles)
    assert (rest, named) == (whole(MANY[3981::2]), ["title 1990", "title 1991"])
    assert hub.bytes_sent("train-0.parquet") < 0.1 * size  # the footer, some titles, and what is read ahead
    assert hub.bytes_sent("train-1.parquet") < 0.1 * size


def test_memory_does_not_grow_with_the_data_set(hub: Hub, start: Any, tmp_path: Path) -> None:
    for times in (1, 10):
        texts = MANY[: 320 * times] * 5
        for name, file in (
            ("parquet", {"train.parquet": pa.table({"text": texts})}),
            ("lines", {"train.jsonl": jsonl(texts)}),
        ):
            of_one_row_group = write(tmp_path / f"{name}-{times}", file, group=len(texts))
            hub.repositories[f"datasets/size/{name}-{times}"] = of_one_row_group
    length = [5 * sum(len(text) for text in MANY[:count]) for count in (320, 3200)]
    small, large, few, many = (
        tuple(map(float, line.split()))
        for line in start(MEMORY, MALLOC_ARENA_MAX="1", ARROW_DEFAULT_MEMORY_POOL="system")
    )
    assert [small[0], large[0], few[0], many[0]] == length * 2
    assert large[1] - small[1] < 45  # MiB; the text is 63 MiB larger, and reading all of it would take twice that
    assert many[1] - few[1] < 45


def test_urls_are_opened_by_fsspec(hub: Hub, start: Any) -> None:
    size = (hub.repositories["datasets/someone/lines"] / "data" / "train.jsonl.gz").stat().st_size
    assert start(ADDRESSES) == [
        '3000 {"text": "line 0"} {"text": "line 2999"}',
        '5 {"text": "line 0"} {"text": "line 4"}',
        "['/data/train.jsonl.gz']",
        str(size),
        str(len(jsonl(LINES))),  # in the last bytes of a gzip file
        "FileNotFoundError",
    ]
    assert hub.sent[-1] == ("train.jsonl.gz", size - 4, size)
