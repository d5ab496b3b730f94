"""A fake hub with data sets of every kind, and functions that read them with the real clients in another process."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.hub_server import Hub, serving
from tests.tiny import HANG

NOWHERE = "http://127.0.0.1:9"
MANY = [f"{number} {random.Random(number).randbytes(2300).hex()}" for number in range(4000)]  # cannot be compressed
LINES = [f"line {number}" for number in range(3000)]

# The pauses of the client between its attempts are shortened, and so is its timeout (in seconds).
READ = """
import hashlib, itertools, json, os, sys, time
from huggingface_hub import constants
from bigs_cli.core.errors import BigsError
from bigs_cli.data.documents import BadRecord
from bigs_cli.data.hub import find_hub_split, read_hub_split
wait = time.sleep
def sleep(seconds):
    if "AT_ONCE" in os.environ:
        raise SystemExit(f"It waits for {seconds} seconds.")
    wait(min(seconds, 0.02))
time.sleep = sleep
constants.HF_HUB_DOWNLOAD_TIMEOUT = float(os.environ.get("ANSWER_WITHIN", 10))
for request in json.loads(sys.argv[1]):
    documents, digest, count, error = [], hashlib.sha256(), 0, None
    first = request.pop("first", None)
    column, skip = request.pop("text_column", None), request.pop("skip", 0)
    try:
        found = find_hub_split(**({"config": None, "split": None} | request))
        for document in itertools.islice(read_hub_split(found, column, skip), first):
            count += 1
            document = f"BAD {document.message}" if isinstance(document, BadRecord) else document
            digest.update(document.encode())
            documents += [document] if count <= 10 else []
    except BigsError as broken:
        error = f"{type(broken).__name__}: {broken}"
    print(json.dumps([documents, count, digest.hexdigest(), error]))
"""

# The peak memory since a mark; `ru_maxrss` is not suitable because a process inherits it.
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
    """Return a card that names the file of each split of each configuration."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [f"  - split: {split}\n    path: {path}" for split, path in splits.items()]
    return "\n".join([*lines, "---", "# A data set"])


def damaged(folder: Path) -> Path:
    """Write a Parquet file of four row groups with the text of the third overwritten, and an invalid Parquet file."""
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
        known["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"  # the count would be sent to another host
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, **known, **environment},
            capture_output=True,
            text=True,
            timeout=HANG,
        )
        assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr  # no output of libraries
        return ended.stdout.splitlines()

    hub.requests.clear()
    hub.sent.clear()
    yield run
    hub.faults.clear()


def read(start: Any, *requests: dict[str, Any], **environment: str) -> list[list[Any]]:
    """Return for each request: the first documents, their number, their digest, and the error."""
    of_someone = [{**one, "repo": f"someone/{one['repo']}"} for one in requests]
    return [json.loads(line) for line in start(READ, json.dumps(of_someone), **environment)]


def whole(documents: list[str]) -> list[Any]:
    return [documents[:10], len(documents), hashlib.sha256("".join(documents).encode()).hexdigest(), None]
