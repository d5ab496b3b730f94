"""Shards and batches: what is written comes back, damage is named, and the order is one stream for everybody."""

import json
from pathlib import Path

import numpy as np
import pytest

from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.data.build import build_shards, is_heldout
from bigs_cli.data.loader import heldout_batches, train_batches
from bigs_cli.data.packing import Packer
from bigs_cli.data.shards import ShardWriter, open_shards
from bigs_cli.data.tokenizer import fingerprint

L = 16


def build(output, documents, tokenizer, **options):
    settings = {"sequence_length": L, "heldout": 0.2, "min_tokens": 2, "sources": ["test"]}
    return build_shards(documents, tokenizer, Path(output), **settings | options)


@pytest.fixture(scope="module")
def shards(tmp_path_factory, documents, tokenizer):
    folder = tmp_path_factory.mktemp("shards") / "new" / "folder"
    build(folder, documents, tokenizer)
    return open_shards(folder)


def test_rows_come_back_each_document_in_one_split(shards, documents, tokenizer):
    packed = Packer(tokenizer, L, 2).pack(documents)
    held = np.array([is_heldout(document, 0.2) for document in documents])[packed.document]
    for split, mine in (("train", ~held), ("heldout", held)):
        rows = shards.split(split)
        assert len(rows) == mine.sum() == shards.manifest.rows(split)
        np.testing.assert_array_equal([rows[i] for i in range(len(rows))], packed.rows[mine])
    manifest, report = shards.manifest, shards.manifest.report
    assert manifest.dtype == "uint16"
    assert (report.documents, report.tokens, report.sequences) == (60, packed.tokens, len(packed.rows))
    assert report.fill_rate == pytest.approx((packed.rows != 0).mean())
    assert fingerprint(shards.tokenizer()) == manifest.tokenizer
    shards.verify()
    assert sorted(path.name for path in shards.folder.iterdir()) == [
        "heldout-00000.bin", "manifest.json", "tokenizer.json", "train-00000.bin", "vocab.txt",
    ]  # fmt: skip


def test_writer_bounds_its_files(tmp_path):
    rows = np.arange(70 * 3).reshape(70, 3)
    writer = ShardWriter(tmp_path, "train", "uint32", shard_rows=16)
    for start in range(0, 70, 25):
        writer.write(rows[start : start + 25])
    written = writer.close()
    assert [shard.rows for shard in written] == [16, 16, 16, 16, 6]
    data = b"".join((tmp_path / shard.file).read_bytes() for shard in written)
    np.testing.assert_array_equal(np.frombuffer(data, "<u4").reshape(-1, 3), rows)


def test_damage_is_named(tmp_path, documents, tokenizer):
    build(tmp_path, documents, tokenizer)
    file = tmp_path / "train-00000.bin"
    data = bytearray(file.read_bytes())
    data[7] ^= 1
    file.write_bytes(data)
    with pytest.raises(BigsError, match=r"train-00000\.bin was altered"):
        open_shards(tmp_path).verify()
    file.write_bytes(data[:-2])
    with pytest.raises(RequestError, match=r"train-00000\.bin is truncated"):
        open_shards(tmp_path)
    file.unlink()
    with pytest.raises(RequestError, match=r"train-00000\.bin is missing"):
        open_shards(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"version": 9}))
    with pytest.raises(RequestError, match=r"manifest\.json is no manifest of token shards: version"):
        open_shards(tmp_path)
    with pytest.raises(RequestError, match=r"no token shards in .*bigs tokenize"):
        open_shards(tmp_path / "none")


def test_a_folder_in_use_is_refused_and_an_error_changes_nothing(tmp_path, documents, tokenizer):
    def failing():
        yield documents[0]
        raise RequestError("bad text")

    with pytest.raises(RequestError, match="bad text"):
        build(tmp_path / "a" / "b", failing(), tokenizer)
    assert not list(tmp_path.iterdir())
    build(tmp_path, documents, tokenizer)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RequestError, match=r"another --output, .*--overwrite"):
        build(tmp_path, documents, tokenizer)
    with pytest.raises(RequestError, match="bad text"):
        build(tmp_path, failing(), tokenizer, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    build(tmp_path, documents[:40], tokenizer, overwrite=True)
    assert open_shards(tmp_path).manifest.report.documents == 40


def test_a_split_must_not_be_empty_unasked(tmp_path, documents, tokenizer):
    with pytest.raises(RequestError, match="None of the 2 documents fell into the held-out part"):
        build(tmp_path, documents[:2], tokenizer, heldout=1e-9)
    with pytest.raises(RequestError, match="long enough"):
        build(tmp_path, ["a", "the"], tokenizer)
    build(tmp_path, documents[:2], tokenizer, heldout=0)
    with pytest.raises(RequestError, match="no heldout rows"):
        open_shards(tmp_path).split("heldout")


def test_every_epoch_has_every_row_in_another_order(shards):
    n = len(shards.split("train"))
    batches = train_batches(shards, 8, seed=3)
    stream = np.concatenate([next(batches) for _ in range(-(-2 * n // 8))])
    epochs = [[row.tobytes() for row in stream[k * n : (k + 1) * n]] for k in range(2)]
    rows = shards.split("train")
    everything = sorted(rows[i].tobytes() for i in range(n))
    assert sorted(epochs[0]) == sorted(epochs[1]) == everything
    assert epochs[0] != epochs[1]
    other = np.concatenate([next(b) for b in [train_batches(shards, 8, seed=4)] for _ in range(n // 8)])
    assert [row.tobytes() for row in other] != epochs[0][: n // 8 * 8]


@pytest.mark.parametrize("processes", [2, 4])
def test_global_batches_are_the_same_for_any_number_of_processes(shards, processes):
    whole = train_batches(shards, 8, seed=0)
    parts = [train_batches(shards, 8, 0, process_index=p, process_count=processes) for p in range(processes)]
    for _ in range(30):
        batch = next(whole)
        for p, part in enumerate(parts):
            np.testing.assert_array_equal(next(part), batch[p::processes])
    with pytest.raises(RequestError, match="cannot be shared evenly by 3"):
        train_batches(shards, 8, 0, process_count=3)


def test_state_continues_the_stream_across_epochs_and_process_counts(shards):
    batches = train_batches(shards, 8, seed=0)
    for _ in range(len(shards.split("train")) // 8 - 1):
        next(batches)
    state = json.loads(json.dumps(batches.get_state()))
    expected = [next(batches) for _ in range(4)]
    again = train_batches(shards, 8, seed=0, start_state=state)
    half = train_batches(shards, 8, seed=0, process_index=1, process_count=2, start_state=state)
    for batch in expected:
        np.testing.assert_array_equal(next(again), batch)
        np.testing.assert_array_equal(next(half), batch[1::2])


def test_heldout_batches_give_every_row_once(shards):
    rows = shards.split("heldout")
    batches = list(heldout_batches(shards, 7))
    assert all(ids.shape == (7, L) and valid.shape == (7,) for ids, valid in batches)
    seen = np.concatenate([ids[valid] for ids, valid in batches])
    np.testing.assert_array_equal(seen, [rows[i] for i in range(len(rows))])
