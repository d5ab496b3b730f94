"""Opening shards: missing, truncated and invalid files are named."""

import json

import numpy as np
import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.data.shards import open_shards
from tests.data.test_build import build, text  # noqa: F401


def test_rows_are_taken_in_any_order_across_shards(tmp_path, tokenizer, text, monkeypatch):  # noqa: F811
    from bigs_cli.data import shard_writer

    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 1 << 10)
    build(tmp_path / "out", tokenizer, text)
    shards = open_shards(tmp_path / "out")
    assert len(shards.manifest.splits["train"]) > 3
    rows = shards.split("train")
    whole = rows.take(np.arange(len(rows)))["input_ids"]
    order = np.random.default_rng(0).permutation(len(rows))
    np.testing.assert_array_equal(rows.take(order)["input_ids"], whole[order])
    assert rows.take(order[:0])["input_ids"].shape == (0, 16)
    with pytest.raises(IndexError):
        rows.take(np.array([len(rows)]))


def test_corrupt_shards_are_named(tmp_path, tokenizer, text):  # noqa: F811
    build(tmp_path / "out", tokenizer, text)
    file = tmp_path / "out" / "train-00000.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(RequestError, match=r"train-00000\.bin is truncated"):
        open_shards(tmp_path / "out")
    file.unlink()
    with pytest.raises(RequestError, match=r"train-00000\.bin is missing"):
        open_shards(tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.json"
    old = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(old | {"version": 9}))
    with pytest.raises(RequestError, match=r"manifest\.json is corrupt: version"):
        open_shards(tmp_path / "out")
    shard = old["splits"]["train"][0] | {"file": "../text.jsonl"}
    manifest.write_text(json.dumps(old | {"splits": {"train": [shard]}}))
    with pytest.raises(RequestError, match=r"is corrupt: splits\.train\.0\.file"):
        open_shards(tmp_path / "out")
    with pytest.raises(RequestError, match=r"no token shards in .*bigs tokenize"):
        open_shards(tmp_path / "none")
