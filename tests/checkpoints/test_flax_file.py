from __future__ import annotations

import contextlib
from pathlib import Path

import ml_dtypes
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigs_cli.checkpoints import flax_file
from bigs_cli.core.errors import RequestError
from bigs_cli.models.published import nested
from tests.checkpoints.tiny import config, parameters, same


def test_files_are_identical_to_those_of_flax(tmp_path: Path) -> None:
    from flax.serialization import msgpack_serialize

    flat = parameters(config())
    flax_file.write(tmp_path / "flax_model.msgpack", flat)
    assert (tmp_path / "flax_model.msgpack").read_bytes() == msgpack_serialize(nested(flat))
    assert same(flax_file.read(tmp_path / "flax_model.msgpack"), flat)


def test_large_arrays_are_stored_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import flax.serialization

    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 64)
    monkeypatch.setattr(flax_file, "_CHUNK_BYTES", 64)
    flat = parameters(config())
    flax_file.write(tmp_path / "ours", flat)
    assert (tmp_path / "ours").read_bytes() == flax.serialization.msgpack_serialize(nested(flat))
    assert same(flax_file.read(tmp_path / "ours"), flat)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_dtypes_are_supported(dtype: type, tmp_path: Path) -> None:
    values = np.arange(12).reshape(3, 4).astype(dtype)
    flax_file.write(tmp_path / "file", {"a/b": values})
    read = flax_file.read(tmp_path / "file")["a/b"]
    assert read.dtype == dtype
    assert np.array_equal(read, values)


def array(*triple: object) -> bytes:
    packed = msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(triple))})
    assert isinstance(packed, bytes)  # Newer releases of msgpack declare that it may be None.
    return packed


MALFORMED = {
    "empty": b"",
    "not msgpack": b"\xc1\xc1",
    "a list": msgpack.packb([1, 2]),
    "a text for an array": msgpack.packb({"a": {"b": "text"}}),
    "whole numbers": array((2,), "int32", b"12345678"),
    "a Python object": array((1,), "object", b"12345678"),
    "too few bytes": array((2, 3), "float32", b"1234"),
    "a negative size": array((-1, -1), "float32", b"1234"),
    "a number for a type": msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(([1], 1, b"1234")))}),
    "an endless shape": array((float("inf"),), "float32", b"1234"),
    "a huge shape": array((2**60, 2**60), "float32", b"1234"),
    "no triple": array((2,)),
    "another extension": msgpack.packb({"a": msgpack.ExtType(3, b"")}),
    "chunks without a shape": msgpack.packb(
        {"a": {"__msgpack_chunked_array__": True, "shape": {}, "chunks": {"0": 1}}}
    ),
    "deep": b"\x81\xa1a" * 100_000,
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_file_is_rejected(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(RequestError, match="is not a Flax weights file"):
        flax_file.read(tmp_path / "file")


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read: No such file"):
        flax_file.read(tmp_path / "file")


@given(cut=st.integers(1, 400), flip=st.integers(0, 399))
@settings(max_examples=60)
def test_a_corrupt_file_is_read_or_rejected(cut: int, flip: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "damaged"
    flax_file.write(file, {"a/b": np.ones((4, 5), np.float32), "a/c": np.ones((3,), np.float32)})
    content = bytearray(file.read_bytes())
    content[flip % len(content)] ^= 0x5A
    file.write_bytes(content[:cut])
    with contextlib.suppress(RequestError):
        flax_file.read(file)
