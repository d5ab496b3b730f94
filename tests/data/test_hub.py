"""Data sets on the hub as text: streamed from a stand-in on the loopback by the real clients, in other processes."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.hub_server import Fault, Hub, serving

NOWHERE = "http://127.0.0.1:9"
MANY = [f"{number} {random.Random(number).randbytes(2300).hex()}" for number in range(4000)]  # cannot be compressed
LINES = [f"line {number}" for number in range(3000)]

# The client's waits are cut short: those between attempts, and, in seconds, the one for an answer.
READ = """
import hashlib, itertools, json, os, sys, time
from huggingface_hub import constants
from bigs_cli.core.errors import BigsError
from bigs_cli.data.documents import Bad
from bigs_cli.data.hub import find_hub_split, read_hub_split
wait = time.sleep
time.sleep = lambda seconds: wait(min(seconds, 0.02))
constants.HF_HUB_DOWNLOAD_TIMEOUT = float(os.environ.get("ANSWER_WITHIN", 10))
for asked in json.loads(sys.argv[1]):
    documents, digest, count, error = [], hashlib.sha256(), 0, None
    first = asked.pop("first", None)
    column, skip = asked.pop("text_column", None), asked.pop("skip", 0)
    try:
        found = find_hub_split(**({"config": None, "split": None} | asked))
        for document in itertools.islice(read_hub_split(found, column, skip), first):
            count += 1
            document = f"BAD {document.message}" if isinstance(document, Bad) else document
            digest.update(document.encode())
            documents += [document] if count <= 10 else []
    except BigsError as broken:
        error = f"{type(broken).__name__}: {broken}"
    print(json.dumps([documents, count, digest.hexdigest(), error]))
"""

# The most memory in use since a mark; a process inherits its `ru_maxrss`.
MEMORY = """
import re
from pathlib import Path
from bigs_cli.data.hub import find_hub_split, read_hub_split
def now(what):
    return int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
def read(name):
    return read_hub_split(find_hub_split(f"size/{name}", None, None), None)
list(read("parquet-1"))
for name in ("parquet-1", "parquet-10", "lines-1", "lines-10"):
    before = now("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    print(sum(len(text) for text in read(name)), now("VmHWM") - before)
"""

ADDRESSES = """
import fsspec
at = "hf://datasets/someone/lines"
for address in (f"{at}/data/train.jsonl.gz", f"{at}@v1/data/train.jsonl.gz"):
    with fsspec.open(address, "rt", compression="infer") as file:
        lines = file.readlines()
    print(len(lines), lines[0].strip(), lines[-1].strip())
system, root = fsspec.url_to_fs(at)
print([path.removeprefix(root) for path in system.find(root)])
print(system.info(f"{root}/data/train.jsonl.gz", refresh=True)["size"])
with system.open(f"{root}/data/train.jsonl.gz", block_size=64, cache_type="none") as file:
    file.seek(-4, 2)
    print(int.from_bytes(file.read(4), "little"))
try:
    fsspec.open(f"{at}/none.jsonl").open()
except FileNotFoundError as error:
    print(type(error).__name__)
"""


def write(folder: Path, files: dict[str, bytes | str | pa.Table], group: int = 100) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pa.Table):
            parquet.write_table(content, path, row_group_size=group)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def jsonl(texts: list[Any]) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def card(**configs: dict[str, str]) -> str:
    """A card that names the file of each split of each configuration."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [f"  - split: {split}\n    path: {path}" for split, path in splits.items()]
    return "\n".join([*lines, "---", "# A data set"])


def damaged(folder: Path) -> Path:
    """A Parquet file of four row groups, the text of the third overwritten, and one that is none."""
    file = (
        write(folder, {"data/train-0.parquet": pa.table({"text": LINES[:40]})}, group=10) / "data" / "train-0.parquet"
    )
    chunk = parquet.read_metadata(file).row_group(2).column(0)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content = bytearray(file.read_bytes())
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    file.write_bytes(content)
    return write(folder, {"data/train-1.parquet": "no Parquet"})


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("hub")
    titles = [f"title {number}" for number in range(2000)]
    many = {f"data/train-{part}.parquet": pa.table({"title": titles, "text": MANY[part::2]}) for part in (0, 1)}
    mixed = b'{"text": "a"}\n{"text": 5}\n{"text": null}\n{"text": "\xff"}\n{broken\n\n{"text": ["b"]}\n{"text": "c"}\n'
    configs = {"20231101.en": {"train": "en/0*", "validation": "en/held-out.parquet"}, "20231101.de": {"train": "de/*"}}
    repositories: dict[str, dict[str, bytes | str | pa.Table]] = {
        "many": many,
        "lines": {"data/train.jsonl.gz": gzip.compress(jsonl(LINES).encode())},
        "lines@v1": {"data/train.jsonl.gz": gzip.compress(jsonl(LINES[:5]).encode())},
        "configs": {
            "README.md": card(**configs),
            "en/0.parquet": pa.table({"body": ["one", "two"], "id": [1, 2]}),
            "en/held-out.parquet": pa.table({"body": ["three"]}),
            "de/0.parquet": pa.table({"text": ["eins", "zwei"]}),
        },
        "mixed": {"train.jsonl": mixed},
        "numbers": {"train.parquet": pa.table({"text": [1, 2]})},
        "rows": {"train.csv": 'text,id\nfirst,1\n"second, quoted",2\nthird,3\n'},
        "array": {"train.json": json.dumps([{"text": "first"}, {"text": "second"}], indent=1)},
        "plain": {"train.txt": "first\nsecond\n\nthird"},
        "program": {"program.py": "raise SystemExit('run')", "train.jsonl": jsonl(["a"])},
        "pictures": {"README.md": "# Pictures", "LICENSE": "none"},
        "wrong-card": {"README.md": card(default={"train": "none/*"}), "train.jsonl": jsonl(["a"])},
        "broken-card": {"README.md": "---\nconfigs: [\n---\n", "train.jsonl": jsonl(["a"])},
        "odd-card": {"README.md": "---\nconfigs: 5\n---\n", "train.jsonl": jsonl(["a"])},
        "broken-array": {"train.json": '[{"text": "first"},\n {"text": '},
        "gated": {"README.md": "# Gated", "train.jsonl": jsonl(["a"])},
    }
    folders = {f"datasets/someone/{name}": write(root / name, files) for name, files in repositories.items()}
    folders["datasets/someone/damaged"] = damaged(root / "damaged")
    with serving(Hub(folders, gated=frozenset({"datasets/someone/gated"}))) as stand_in:
        yield stand_in


@pytest.fixture
def start(hub: Hub, tmp_path: Path) -> Iterator[Any]:
    def run(code: str, *arguments: str, **environment: str) -> list[str]:
        known = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": ""}
        known["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"  # which would go to another host
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, **known, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr  # not a word of the libraries'
        return ended.stdout.splitlines()

    hub.requests.clear()
    hub.sent.clear()
    yield run
    hub.faults.clear()


def read(start: Any, *asked: dict[str, Any], **environment: str) -> list[list[Any]]:
    """Of each request: the first documents, how many there were, their digest, the error."""
    of_someone = [{**one, "repo": f"someone/{one['repo']}"} for one in asked]
    return [json.loads(line) for line in start(READ, json.dumps(of_someone), **environment)]


def whole(documents: list[str]) -> list[Any]:
    return [documents[:10], len(documents), hashlib.sha256("".join(documents).encode()).hexdigest(), None]


def test_rows_of_every_kind_of_file(start: Any) -> None:
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


def test_what_cannot_be_read_is_told_and_passed_over(start: Any) -> None:
    at = "hf://datasets/someone"
    mixed, after, numbers, broken, rest = read(
        start,
        {"repo": "mixed"},
        {"repo": "mixed", "skip": 5},
        {"repo": "numbers"},
        {"repo": "damaged"},
        {"repo": "damaged", "skip": 27},
    )
    assert mixed[0][:3] == ["a", f"BAD {at}/mixed/train.jsonl:2: the column 'text' holds a int, not text.", ""]
    assert mixed[0][3].startswith(f"BAD {at}/mixed/train.jsonl:4 is not UTF-8 (invalid start byte).")
    assert mixed[0][4].startswith(f"BAD {at}/mixed/train.jsonl:5 is not JSON (")
    assert mixed[0][5:] == [f"BAD {at}/mixed/train.jsonl:7: the column 'text' holds a list, not text.", "c"]
    assert (mixed[3], after[0]) == (None, mixed[0][5:])
    rows = [f"BAD {at}/numbers/train.parquet, row {row}: the column 'text' holds a int, not text." for row in (1, 2)]
    assert numbers[0] == rows
    assert (broken[0], broken[1], broken[3]) == (LINES[:10], 41, None)
    for row, said in zip((28, 29, 30), rest[0], strict=False):  # a record has its number whatever is left out
        assert said.startswith(f"BAD {at}/damaged/data/train-0.parquet, row {row}: the file is damaged (")
    assert (rest[0][3:], rest[1]) == (LINES[30:37], 14)


def test_only_what_is_read_is_fetched(hub: Hub, start: Any) -> None:
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
    assert large[1] - small[1] < 45  # MiB; there are 63 more of text, and whole they would take twice that
    assert many[1] - few[1] < 45


def test_faults_on_the_way_leave_the_text_whole(hub: Hub, start: Any) -> None:
    tree, lines = "/api/datasets/someone/configs/tree", "GET /datasets/someone/lines/resolve"
    hub.faults += [
        Fault("train-0.parquet", after=1000),
        Fault("train-0.parquet", after=200_000),
        Fault("train-1.parquet", times=4, status=503),
        Fault("train-1.parquet", after=200_000, stall=30),
        Fault(lines, stall=30),
        Fault(lines, after=10),
        Fault(lines, status=500),
        Fault(tree, stall=30),
        Fault(tree, status=502),
        Fault("GET /api/datasets/someone/configs", times=2, status=504),
        Fault("/someone/configs/resolve/0123456789abcdef0123456789abcdef01234567/README.md", status=503),
        Fault("/someone/rows/resolve/0123456789abcdef0123456789abcdef01234567/README.md", times=8, status=503),
        Fault("train.csv", after=5),
    ]
    asked = [{"repo": "many"}, {"repo": "lines"}, {"repo": "configs", "config": "20231101.en"}, {"repo": "rows"}]
    assert read(start, *asked, ANSWER_WITHIN="0.5") == [
        whole([*MANY[::2], *MANY[1::2]]),
        whole(LINES),
        whole(["one", "two"]),
        whole(["first", "second, quoted", "third"]),
    ]
    assert [fault for fault in hub.faults if fault.times] == []


def test_a_hub_that_stays_away_is_told_after_a_while(hub: Hub, start: Any) -> None:
    hub.faults += [
        Fault("train-1.parquet", times=99, status=503),
        Fault("lines/resolve", times=99, after=10),
        Fault("rows/resolve", times=99, after=10),
        Fault("array/tree", times=99, status=502),
        Fault("plain/resolve", times=99, after=10, stall=30),
        Fault("numbers/resolve", times=99, status=503),
    ]
    started = time.monotonic()
    many, lines, rows, array, plain, numbers = read(
        start,
        *({"repo": name} for name in ("many", "lines", "rows", "array", "plain", "numbers")),
        ANSWER_WITHIN="0.5",
    )
    assert time.monotonic() - started < 30
    on = "Check the network and try again; an interrupted `bigs tokenize` goes on with --resume."
    where = f"from {hub.endpoint} broke off"
    assert (many[0], many[1]) == (MANY[:20:2], 2000)
    assert many[3] == f"BigsError: Reading someone/many:default:train {where} (HTTP 503). {on}"
    broken = "BigsError: Reading hf://datasets/someone"
    assert lines[3].startswith(f"{broken}/lines/data/train.jsonl.gz broke off (peer closed connection")
    assert plain[3].startswith(f"{broken}/plain/train.txt broke off (")
    assert rows[3].startswith(f"BigsError: Reading someone/rows:default:train {where} (")
    assert all("\n" not in said[3] for said in (lines, rows, plain))
    for name, said, why in (("array", array, "HTTP 502"), ("numbers", numbers, "HTTP 503")):
        assert said[3] == (
            f"BigsError: The hub ({hub.endpoint}) does not say what someone/{name} consists of ({why}). "
            "Check the network and try again."
        )


def test_what_the_hub_does_not_have_is_told(hub: Hub, start: Any) -> None:
    got = read(
        start,
        {"repo": "none"},
        {"repo": "no--thing"},
        {"repo": "lines", "revision": "v2"},
        {"repo": "configs"},
        {"repo": "configs", "config": "20231101.ne"},
        {"repo": "configs", "config": "20231101.en", "split": "valid"},
        {"repo": "configs", "config": "20231101.en", "text_column": "txt"},
        {"repo": "rows", "text_column": "txt"},
        {"repo": "program"},
        {"repo": "pictures"},
        {"repo": "wrong-card"},
        {"repo": "gated"},
        {"repo": "broken-card"},
        {"repo": "odd-card"},
        {"repo": "broken-array"},
    )
    *got, broken_card, odd_card, broken_array = got
    known = "20231101.en, 20231101.de"
    assert [(documents, error) for documents, _, _, error in got] == [
        ([], f"RequestError: {said}")
        for said in (
            "someone/none is no file or folder here, and the hub has no data set of that name that you may see. "
            "Check the name; if it is private: hf auth login",
            "'someone/no--thing' is neither a file or folder here nor a hub id such as owner/name.",
            "The hub's data set someone/lines has no revision 'v2'. Name a branch, a tag or a commit of it.",
            "The hub's data set someone/configs has several configurations. "
            f"It has {known}; name one: someone/configs:20231101.en",
            "The hub's data set someone/configs has no configuration '20231101.ne'. Did you mean '20231101.en'? "
            f"It has {known}; name one: someone/configs:20231101.en",
            "The hub's data set someone/configs:20231101.en has no split 'valid'. Did you mean 'validation'? "
            "It has train, validation; name one: someone/configs:20231101.en:train",
            "hf://datasets/someone/configs/en/0.parquet: there is no column 'txt'. "
            "Its columns are body, id; name the one with the text: --text-column NAME",
            "someone/rows:default:train: there is no column 'txt'. Did you mean 'text'? "
            "Its columns are text, id; name the one with the text: --text-column NAME",
            "The hub's data set someone/program is a program (program.py), and programs from the hub are never run. "
            "Name a copy of it in Parquet or JSONL.",
            "The hub's data set someone/pictures holds no data files of a known kind. "
            "Name files of it: hf://datasets/someone/pictures/…",
            "The hub's data set someone/wrong-card holds no data files of a known kind. "
            "Name files of it: hf://datasets/someone/wrong-card/…",
            "The hub's data set someone/gated is gated: ask for access on its page, then log in with: hf auth login",
        )
    ]
    for name, (_, _, _, said) in (("broken-card", broken_card), ("odd-card", odd_card)):
        assert said.startswith(f"RequestError: The hub's data set someone/{name} cannot be used (")
        assert said.endswith(f"). Name files of it: hf://datasets/someone/{name}/…")
    said = broken_array[3]
    assert said.startswith("RequestError: The hub's data set someone/broken-array:default:train cannot be read (")
    assert "program.py" not in hub.downloads()


def test_without_a_network_one_sentence_says_so_at_once(start: Any) -> None:
    started = time.monotonic()
    ((_, _, _, away),) = read(start, {"repo": "lines"}, HF_ENDPOINT=NOWHERE)
    ((_, _, _, offline),) = read(start, {"repo": "lines"}, HF_HUB_OFFLINE="1")
    assert time.monotonic() - started < 15
    assert away == (
        f"BigsError: someone/lines is no file or folder here, and the hub ({NOWHERE}) cannot be reached to look for it "
        "there. Check the network and try again, or name text that is on this machine."
    )
    assert offline == (
        "BigsError: someone/lines is no file or folder here, and HF_HUB_OFFLINE is set. "
        "Unset it to stream a data set from the hub."
    )


def test_addresses_are_opened_by_fsspec(hub: Hub, start: Any) -> None:
    size = (hub.repositories["datasets/someone/lines"] / "data" / "train.jsonl.gz").stat().st_size
    assert start(ADDRESSES) == [
        '3000 {"text": "line 0"} {"text": "line 2999"}',
        '5 {"text": "line 0"} {"text": "line 4"}',
        "['/data/train.jsonl.gz']",
        str(size),
        str(len(jsonl(LINES))),  # which gzip writes last
        "FileNotFoundError",
    ]
    assert hub.sent[-1] == ("train.jsonl.gz", size - 4, size)
