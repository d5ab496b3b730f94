"""Writing shards: files of limited size, which are the same if a later process continues them."""

import hashlib

import numpy as np
import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.data.shard_writer import ShardWriter

ROWS = np.arange(70 * 3).reshape(70, 3)


@pytest.fixture
def write():
    opened = []

    def write(folder, rows, step=25, **options):
        folder.mkdir(exist_ok=True)
        opened.append(ShardWriter(folder, "train", "uint32", 3, shard_rows=16, **options))
        for start in range(0, len(rows), step):
            opened[-1].write(rows[start : start + step])
        return opened[-1]

    yield write
    for writer in opened:
        writer.close()


def test_files_have_a_maximum_size_and_a_hash(tmp_path, write):
    written = write(tmp_path, ROWS).finish()
    assert [shard.rows for shard in written] == [16, 16, 16, 16, 6]
    parts = [(tmp_path / shard.file).read_bytes() for shard in written]
    np.testing.assert_array_equal(np.frombuffer(b"".join(parts), "<u4").reshape(-1, 3), ROWS)
    assert [hashlib.sha256(part).hexdigest() for part in parts] == [shard.sha256 for shard in written]


@pytest.mark.parametrize("kept", [0, 10, 16, 40, 64, 70])
def test_writing_continues_after_the_saved_rows(tmp_path, write, kept):
    whole = write(tmp_path / "whole", ROWS).finish()
    first = write(tmp_path / "parts", ROWS[:kept])
    written = first.flush()
    first.write(ROWS[:9])  # written after the saved point, so it is removed
    first.flush()
    assert write(tmp_path / "parts", ROWS[kept:], step=7, written=written).finish() == whole
    for shard in whole:
        assert (tmp_path / "parts" / shard.file).read_bytes() == (tmp_path / "whole" / shard.file).read_bytes()


def test_truncated_files_are_not_continued(tmp_path, write):
    written = write(tmp_path, ROWS[:20]).flush()
    (tmp_path / "train-00001.bin").write_bytes(b"")
    with pytest.raises(RequestError, match=r"train-00001\.bin is shorter than before"):
        write(tmp_path, ROWS[20:], written=written)
