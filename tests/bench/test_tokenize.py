"""`bigs bench tokenize`: real measurements that take seconds."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tiny import DOCUMENTS, bigs


def test_results_for_a_text_read_once_and_twice(shards: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": f"{one} {two}"}) + "\n" for one in DOCUMENTS for two in DOCUMENTS))
    ask = ("bench", "tokenize", "--input", text, "--vocab", shards, "--length", 32, "--workers", 1)
    done = bigs(*ask, "--times", 1, "--times", 2, "--rounds", 1, "--json", "-").fine()
    report = json.loads(done.out)
    assert report["bench"] == "tokenize"
    assert report["settings"]["workers"] == 1
    assert report["machine"]["cores"]
    once, twice = report["sizes"]
    assert (once["times"], twice["times"]) == (1, 2)
    assert twice["tokens"] == 2 * once["tokens"] > 1000
    for size in report["sizes"]:
        assert size["ratio"] == size["ours_tokens_per_second"] / size["alone_tokens_per_second"] > 0
        assert 10e6 < size["peak_memory_bytes"] < 1 << 30
    table = bigs(*ask, "--times", 1, "--rounds", 1).fine()
    assert "peak memory" in table.out


def test_invalid_requests_are_rejected(tmp_path: Path) -> None:
    done = bigs("bench", "tokenize", "--input", "none.txt", "--vocab", "none.txt")
    assert (done.code, done.out) == (2, "")
    assert "no file or folder none.txt" in done.err
