from __future__ import annotations

import contextlib
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigs_cli.checkpoints import safetensors_file, torch_file
from bigs_cli.checkpoints.torch_pickle import TensorSpec, write_state
from bigs_cli.core.errors import RequestError
from bigs_cli.models.published import to_torch
from tests.checkpoints.tiny import config, parameters, same


def archive(path: Path, pickled: bytes, compression: int = zipfile.ZIP_STORED, **storages: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        for key, content in storages.items():
            file.writestr(f"archive/data/{key}", content)
    return path


def tensor(shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0, storage: str = "FloatStorage") -> bytes:
    return write_state([("w", TensorSpec("s", storage, 6, offset, shape, strides))])


def test_written_files_are_read_back(tmp_path: Path) -> None:
    state = to_torch(parameters(config()), config())
    torch_file.write(tmp_path / "file", state)
    assert same(torch_file.read(tmp_path / "file"), state)


def test_shared_arrays_share_an_aligned_storage(tmp_path: Path) -> None:
    state = to_torch(parameters(config()), config())
    torch_file.write(tmp_path / "file", state)
    with zipfile.ZipFile(tmp_path / "file") as file:
        members = [info for info in file.infolist() if "/data/" in info.filename]
        assert len(members) == len(state) - 2, "the MLM bias and the word embedding are stored twice"
        content = (tmp_path / "file").read_bytes()
        for info in members:
            name, extra = struct.unpack_from("<HH", content, info.header_offset + 26)
            assert (info.header_offset + 30 + name + extra) % 64 == 0
    read = torch_file.read(tmp_path / "file")
    assert np.shares_memory(read["cls.predictions.bias"], read["cls.predictions.decoder.bias"])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16, np.int64, np.int32, np.uint8, np.bool_])
def test_other_dtypes_are_supported(dtype: type, tmp_path: Path) -> None:
    values = np.arange(6).reshape(2, 3).astype(dtype)
    torch_file.write(tmp_path / "file", {"w": values})
    read = torch_file.read(tmp_path / "file")["w"]
    assert read.dtype == dtype
    assert np.array_equal(read, values)


def test_offsets_and_strides_are_applied(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype=np.float32)
    transposed = archive(tmp_path / "t", tensor((3, 2), (1, 3)), s=numbers.tobytes())
    assert np.array_equal(torch_file.read(transposed)["w"], numbers.reshape(2, 3).T)
    part = archive(tmp_path / "p", tensor((2,), (2,), offset=1), s=numbers.tobytes())
    assert torch_file.read(part)["w"].tolist() == [1, 3]


BEYOND = {
    "offset": tensor((2,), (1,), offset=5),
    "strides": tensor((2, 3), (4, 1)),
    "shape": tensor((2**40,), (0,)),
    "negative": tensor((2,), (-1,), offset=3),
    "no whole number": tensor((2,), (1,)).replace(b"J\x02\x00\x00\x00", b"G" + b"\x00" * 8),
    "huge": tensor((1, 6), (2**62, 1)).replace(b"J\x01\x00\x00\x00", b"\x8a\x09" + b"\xff" * 8 + b"\x00", 1),
    "another storage": tensor((2,), (1,)).replace(b"X\x01\x00\x00\x00s", b"X\x01\x00\x00\x00x"),
    "truncated": tensor((2,), (1,))[:40],
    "empty": b"",
    "an empty stack": b"\x80\x02.",
    "no mark": b"\x80\x02}u.",
    "a far memo": b"\x80\x02}r\xff\xff\xff\xffj\x00\x00\x00\x00.",
}


@pytest.mark.parametrize("pickled", BEYOND.values(), ids=BEYOND.keys())
def test_malformed_tensors_and_pickles_are_rejected(pickled: bytes, tmp_path: Path) -> None:
    path = archive(tmp_path / "file", pickled, s=np.zeros(6, np.float32).tobytes())
    with pytest.raises(RequestError, match="is malformed"):
        torch_file.read(path)


class Writes:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.path, "run")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_rejected_and_not_executed(protocol: int, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    path = archive(tmp_path / "pytorch_model.bin", pickle.dumps({"w": Writes(victim)}, protocol))
    with pytest.raises(RequestError, match="nothing in it was executed"):
        torch_file.read(path)
    assert not victim.exists()
    pickle.loads(pickle.dumps(Writes(victim)))
    assert victim.exists(), "the same pickle does write the file when it is unpickled"


REFUSED = {
    "a system call": b"cos\nsystem\n(X\x04\x00\x00\x00trueltR.",
    "a module that looks like torch": b"ctorch.hub\nload\n.",
    "a name on the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "an instance": b"(i__builtin__\nlist\n.",
    "a list": b"\x80\x02].",
    "a nested checkpoint": b"\x80\x02}X\x05\x00\x00\x00model}s.",
    "a storage of its own": write_state([("w", TensorSpec("s", "QInt8Storage", 1, 0, (1,), (1,)))]),
}


@pytest.mark.parametrize("pickled", REFUSED.values(), ids=REFUSED.keys())
def test_pickles_with_anything_but_tensors_are_rejected(pickled: bytes, tmp_path: Path) -> None:
    path = archive(tmp_path / "file", pickled, s=b"1234")
    with pytest.raises(RequestError, match=r"contains more than weights|is malformed"):
        torch_file.read(path)


@given(at=st.integers(0, 200), to=st.integers(0, 255))
@settings(max_examples=200)
def test_a_corrupt_pickle_is_read_or_rejected(at: int, to: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    pickled = bytearray(tensor((3, 2), (1, 3)))
    pickled[at % len(pickled)] = to
    path = archive(tmp_path_factory.getbasetemp() / "damaged", bytes(pickled), s=np.zeros(6, np.float32).tobytes())
    with contextlib.suppress(RequestError):
        torch_file.read(path)


def test_the_format_of_torch_before_1_6_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
    with pytest.raises(RequestError, match=r"format of PyTorch before 1\.6"):
        torch_file.read(tmp_path / "file")


def test_missing_corrupt_and_compressed_files_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        torch_file.read(tmp_path / "none")
    torch_file.write(tmp_path / "file", {"w": np.ones(500, np.float32)})
    content = bytearray((tmp_path / "file").read_bytes())
    content[content.index(np.float32(1).tobytes() * 4)] ^= 1
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(RequestError, match="zip archive"):
        torch_file.read(tmp_path / "file")
    bomb = archive(tmp_path / "bomb", tensor((2,), (1,)), zipfile.ZIP_DEFLATED, s=bytes(10_000_000))
    with pytest.raises(RequestError, match="compressed"):
        torch_file.read(bomb)


def test_files_of_the_torch_port_have_the_same_tensors(shared: Path) -> None:
    for folder in sorted((shared / "fixtures").glob("torch_*/")):
        safe = safetensors_file.read(folder / "model.safetensors")
        assert same(torch_file.read(folder / "pytorch_model.bin"), safe)


def test_files_are_exchanged_with_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    state = to_torch(parameters(config()), config())
    torch_file.write(tmp_path / "ours", state)
    loaded = torch.load(tmp_path / "ours", weights_only=True, mmap=True)
    assert same({name: value.numpy() for name, value in loaded.items()}, state)
    base = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4)
    theirs = torch.nn.Linear(3, 2).state_dict() | {
        "t": base.T,
        "part": base[1:, ::2],
        "p": torch.nn.Parameter(base[0]),
    }
    torch.save(theirs, tmp_path / "theirs")
    read = torch_file.read(tmp_path / "theirs")
    assert all(np.array_equal(read[name], value.detach().float().numpy()) for name, value in theirs.items())
    torch.save(theirs, tmp_path / "old", _use_new_zipfile_serialization=False)
    with pytest.raises(RequestError, match=r"format of PyTorch before 1\.6"):
        torch_file.read(tmp_path / "old")
