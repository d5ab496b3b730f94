"""Minimal pairs from any table, and the accuracy on them by group."""

from __future__ import annotations

import bz2
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.pairs import BLIMP_FILES, accuracies, find_tables, read_blimp, read_pairs
from tests.hub_server import Hub, serving
from tests.tiny import HANG

ROWS = [("the cat sleeps", "the cat sleep", "near"), ("the dogs are here", "the dogs is here", "far")]
READ = """
from bigs_cli.core.errors import BigsError
from bigs_cli.evaluation.pairs import fetch_blimp, find_tables, read_blimp
try:
    files = [read_blimp(path, "paradigm") for path in find_tables([fetch_blimp()])]
    print(len(files), files[3].good, files[3].groups)
except BigsError as error:
    print(error)
"""


def test_all_table_formats_give_the_same_pairs(tmp_path: Path) -> None:
    columns = ("ok", "wrong", "kind")
    for name, mark in (("a.csv", ","), ("b.tsv", "\t")):
        (tmp_path / name).write_text("".join(mark.join(row) + "\n" for row in (columns, *ROWS)))
    lines = (json.dumps(dict(zip(columns, row, strict=True))) for row in ROWS)
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    parquet.write_table(pa.table(dict(zip(columns, zip(*ROWS, strict=True), strict=True))), tmp_path / "d.parquet")
    (tmp_path / "e.ndjson").write_bytes((tmp_path / "c.jsonl").read_bytes())
    (tmp_path / "f.csv.bz2").write_bytes(bz2.compress((tmp_path / "a.csv").read_bytes()))
    (tmp_path / "README.md").write_text("of these")
    (tmp_path / "dataset_infos.json").write_text("{}")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "e.csv").write_text("nothing")
    found = find_tables([tmp_path])
    assert [path.name for path in found] == ["a.csv", "b.tsv", "c.jsonl", "d.parquet", "e.ndjson", "f.csv.bz2"]
    for path in found:
        read = read_pairs(path, {"kind": "kind"}, "ok", "wrong")
        assert (read.good, read.bad) == ([row[0] for row in ROWS], [row[1] for row in ROWS])
        assert read.groups == {"kind": ["near", "far"]}
        assert len(read_pairs(path, {}, "ok", "wrong", limit=1)) == 1


def test_linked_folders_are_read_and_broken_links_reported(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.csv").write_text("good,bad\n")
    here = tmp_path / "here"
    here.mkdir()
    (here / "linked").symlink_to(tmp_path / "far")
    (here / "gone.csv").symlink_to("nowhere.csv")
    messages: list[str] = []
    assert find_tables([here], messages.append) == [here / "linked" / "a.csv"]
    assert messages == [f"{here} has 1 entry that cannot be read: {here / 'gone.csv'} (a broken link)."]
    with pytest.raises(RequestError, match=r"gone\.csv is a broken link to nowhere\.csv"):
        find_tables([here / "gone.csv"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"sentence_good": "a"}', "a.jsonl has no column 'sentence_bad'. Did you mean 'sentence_good'? Its columns"),
        ('{"sentence_good": "a", "sentence_bad": " "}', "a.jsonl:1: column 'sentence_bad' is empty. A pair needs two"),
        (
            '{"sentence_good": "a", "sentence_bad": 3}',
            "a.jsonl:1: column 'sentence_bad' contains 3, which is not text.",
        ),
        ('{"sentence_good": "a", "sentence_bad": "b"}', "a.jsonl has no column 'UID'."),
        ("sentence_good", "a.jsonl:1 is not JSON"),
        ("", "a.jsonl contains no rows."),
    ],
)
def test_invalid_pairs_are_reported_with_their_line(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(RequestError) as error:
        read_pairs(path, {"paradigm": "UID"})
    assert message in str(error.value)


def test_folders_without_tables_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"There is no file or folder .*x \(--data\)"):
        find_tables([tmp_path / "x"])
    with pytest.raises(RequestError, match="contains no tables of pairs"):
        find_tables([tmp_path])
    with pytest.raises(RequestError, match="Name the files to evaluate on"):
        find_tables([])


def test_accuracies_and_intervals() -> None:
    right = np.array([True, True, False, True])
    made = accuracies(right, {"attractors": ["10", "2", "2", "10"], "kind": ["b", "a", "b", "b"]})
    assert [(line.level, line.group, line.n, line.right) for line in made] == [
        ("all", "all", 4, 3),
        ("attractors", "2", 2, 1),
        ("attractors", "10", 2, 2),
        ("kind", "a", 1, 1),
        ("kind", "b", 3, 2),
    ]
    assert made[0].accuracy == 0.75
    # Wilson: (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n)
    z, p, n = 1.959964, 0.75, 4
    middle, half = (p + z**2 / (2 * n)), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert made[0].interval == pytest.approx(((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)))


def blimp(of: str, term: str = "s-selection") -> dict[str, str]:
    groups = {"field": "syntax/semantics", "linguistics_term": term, "UID": of}
    return {"sentence_good": f"{of} is good", "sentence_bad": f"{of} are bad", **groups}


def test_blimp_groups_have_the_names_of_the_paper(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(blimp('one'))}\n{json.dumps(blimp('two', 'ellipsis'))}\n")
    fine, coarse = read_blimp(path, "paradigm"), read_blimp(path, "field")
    assert fine.groups["phenomenon"] == ["argument_structure", "ellipsis"]
    assert fine.groups["paradigm"] == ["one", "two"]
    assert coarse.groups == {"field": ["syntax_semantics"] * 2}


def ask(home: Path, endpoint: str, **environment: str) -> str:
    variables = {**os.environ, "HF_HUB_OFFLINE": "", "HF_ENDPOINT": endpoint, "HF_HOME": str(home), **environment}
    ended = subprocess.run([sys.executable, "-c", READ], env=variables, capture_output=True, text=True, timeout=HANG)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_blimp_is_downloaded_once_and_then_cached(tmp_path: Path) -> None:
    root = tmp_path / "hub"
    for number in range(BLIMP_FILES):
        (root / f"p{number:02}").mkdir(parents=True)
        table = pa.Table.from_pylist([blimp(f"p{number:02}")])
        parquet.write_table(table, root / f"p{number:02}" / "train-00000-of-00001.parquet")
    levels = {"field": ["syntax_semantics"], "phenomenon": ["argument_structure"], "paradigm": ["p03"]}
    expected = f"{BLIMP_FILES} ['p03 is good'] {levels}"
    with serving(Hub({"datasets/nyu-mll/blimp": root})) as hub:
        assert ask(tmp_path / "home", hub.endpoint) == expected
        gone = ask(tmp_path / "other", hub.endpoint, HF_HUB_OFFLINE="1")
    assert ask(tmp_path / "home", "http://127.0.0.1:9") == expected
    assert gone == (
        "BLiMP could not be downloaded from the hub: nyu-mll/blimp is not in the hub's cache, and HF_HUB_OFFLINE is "
        "set. Unset it and run the command once online. Pass --data DIR with its .jsonl files "
        "(https://github.com/alexwarstadt/blimp), or connect to the hub once."
    )
    with serving(Hub({"datasets/nyu-mll/blimp": root / "p00"})) as other:
        output = ask(tmp_path / "third", other.endpoint)
    assert "nyu-mll/blimp has 0 of its 67 files." in output
