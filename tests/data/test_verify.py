"""Modified shards are named and refused before the first step; valid ones are read only once."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from bigs_cli.core.errors import RequestError
from bigs_cli.data import verify as module
from bigs_cli.data.shards import open_shards
from bigs_cli.data.verify import check, verify
from tests.data.tiny import numbered, write_shards
from tests.tiny import LENGTH, bigs, pretrain

SHARDS = 6  # train-00000 … 00004 and heldout-00000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BIGS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_shards(tmp_path / "shards", numbered(31), numbered(5, first=31))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, in order."""
    names: list[str] = []
    original = module._read

    def reading(manifest, file):
        names.append(file[0].name)
        return original(manifest, file)

    monkeypatch.setattr(module, "_read", reading)
    return names


def flip(path: Path, byte: int = 5) -> None:
    """Change one bit of a file and restore its modification time."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_flipped_bit_is_refused_before_anything_is_written(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = np.random.default_rng(0).integers(5, tokenizer.get_vocab_size(), (40, LENGTH))
    shards = write_shards(
        tmp_path / "shards",
        rows[8:],
        rows[:8],
        vocab_size=tokenizer.get_vocab_size(),
        tokenizer=tokenizer,
        shard_rows=16,
    )
    flip(shards / "train-00001.bin")
    refused = bigs(*pretrain(shards, tmp_path / "run"))
    assert refused.code == 2
    assert f"{shards / 'train-00001.bin'} was modified" in refused.err
    assert "bigs tokenize … --overwrite" in refused.err
    assert not (tmp_path / "run").exists()


def test_all_modified_shards_are_named(folder: Path) -> None:
    for name in ("train-00000.bin", "train-00003.bin", "heldout-00000.bin"):
        flip(folder / name)
    with pytest.raises(RequestError) as refused:
        verify(open_shards(folder))
    lines = str(refused.value).splitlines()
    named = [Path(line.split()[0]).name for line in lines[:-1]]
    assert named == ["train-00000.bin", "train-00003.bin", "heldout-00000.bin"]
    assert lines[-1].startswith("Make the shards again with: bigs tokenize")


def test_all_truncated_and_missing_shards_are_named(folder: Path) -> None:
    (folder / "train-00001.bin").unlink()
    file = folder / "train-00002.bin"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(RequestError, match=r"(?s)train-00001\.bin is missing.*train-00002\.bin is truncated.*53 bytes"):
        open_shards(folder)


def test_valid_shards_are_read_once_and_modified_ones_again(folder: Path, read: list[str]) -> None:
    shards = open_shards(folder)
    sizes: list[int] = []
    verify(shards, advance=sizes.append)
    assert len(read) == SHARDS
    assert sum(sizes) == shards.nbytes
    verify(shards, advance=sizes.append)
    assert len(read) == SHARDS
    assert sum(sizes) == 2 * shards.nbytes
    flip(folder / "train-00002.bin")
    for _ in range(2):  # failures are not cached
        with pytest.raises(RequestError, match=r"train-00002\.bin was modified"):
            verify(shards)
    assert read[SHARDS:] == ["train-00002.bin"] * 2
    flip(folder / "train-00002.bin")
    verify(shards)
    assert read[SHARDS:] == ["train-00002.bin"] * 3
    verify(shards)
    assert len(read) == SHARDS + 3


def test_a_shard_is_read_again_if_its_hash_in_the_manifest_changes(folder: Path, read: list[str]) -> None:
    verify(open_shards(folder))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["splits"]["heldout"][0]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RequestError, match=r"heldout-00000\.bin was modified"):
        verify(open_shards(folder))
    assert read[SHARDS:] == ["heldout-00000.bin"]


def test_a_copy_is_read_once(folder: Path, tmp_path: Path, read: list[str]) -> None:
    verify(open_shards(folder))
    shutil.copytree(folder, tmp_path / "copy")
    verify(open_shards(tmp_path / "copy"))
    assert len(read) == 2 * SHARDS
    verify(open_shards(tmp_path / "copy"))
    (tmp_path / "link").symlink_to(folder)
    verify(open_shards(tmp_path / "link"))
    assert len(read) == 2 * SHARDS


def test_processes_share_the_shards(folder: Path, read: list[str]) -> None:
    shards = open_shards(folder)
    done = []
    for process in range(4):
        verify(shards, process, 4)
        done.append(len(read))
    assert done == [2, 4, 5, 6]
    assert len(set(read)) == SHARDS
    verify(shards)  # the processes share the cache
    assert len(read) == SHARDS
    flip(folder / "train-00001.bin")
    verify(shards, 0, 4)
    with pytest.raises(RequestError, match=r"train-00001\.bin"):
        verify(shards, 1, 4)


def test_an_unusable_cache_only_costs_time(folder: Path, cache: Path, read: list[str]) -> None:
    shards = open_shards(folder)
    cache.write_text("a file where the folder should be")
    for times in (1, 2):
        verify(shards)
        assert len(read) == times * SHARDS
    cache.unlink()
    verify(shards)
    (remembered,) = (cache / "verified").iterdir()
    remembered.write_bytes(b"\xff\xfe{]\n" + remembered.read_bytes()[:100])  # truncated in the middle of a line
    for _ in range(3):
        verify(shards)
    read.clear()
    verify(shards)
    assert not read


def test_check_reads_everything_each_time(tmp_path: Path, tokenizer: Tokenizer, read: list[str]) -> None:
    size = tokenizer.get_vocab_size()
    folder = write_shards(
        tmp_path / "shards", numbered(30), numbered(5, first=30), vocab_size=size, tokenizer=tokenizer
    )
    shards, sizes = open_shards(folder), []
    verify(shards)
    assert check(shards, sizes.append) == check(shards) == []
    assert len(read) == 3 * SHARDS
    assert sum(sizes) == shards.nbytes
    flip(folder / "train-00001.bin")
    flip(folder / "heldout-00000.bin")
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace('"lowercase": true', '"lowercase": false'))
    altered, held, exchanged = check(shards)
    assert "train-00001.bin was modified" in altered
    assert "heldout-00000.bin was modified" in held
    assert "is not the one with which its shards were made" in exchanged
    (folder / "train-00001.bin").unlink()
    assert "train-00001.bin cannot be read (No such file or directory)" in check(shards)[0]


def test_ids_beyond_the_vocabulary_are_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    size = tokenizer.get_vocab_size()
    folder = write_shards(
        tmp_path / "shards", numbered(3, first=size - 2), numbered(1), vocab_size=size, tokenizer=tokenizer
    )
    (problem,) = check(open_shards(folder))
    assert f"train-00000.bin contains the token id {size}, beyond the {size} entries" in problem
    with pytest.raises(RequestError, match=f"token id {size}"):
        verify(open_shards(folder))
