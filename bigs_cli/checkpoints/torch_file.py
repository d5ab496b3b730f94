"""Reading and writing `pytorch_model.bin` without PyTorch: a zip archive of one pickle and one file per storage."""

from __future__ import annotations

import struct
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bigs_cli.checkpoints.arrays import FLOATS, Array, Flat
from bigs_cli.checkpoints.torch_pickle import TensorSpec, UnsupportedPickle, read_state, write_state
from bigs_cli.core.error_messages import read_error
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import atomic_write

_STORAGES: dict[str, np.dtype[Any]] = {
    "FloatStorage": FLOATS["float32"],
    "DoubleStorage": FLOATS["float64"],
    "HalfStorage": FLOATS["float16"],
    "BFloat16Storage": FLOATS["bfloat16"],
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
_STORAGE_OF = {dtype: name for name, dtype in _STORAGES.items()}
_MAX_PICKLE = 64 * 2**20  # bytes; it only has names and shapes, published ones have less than 1 MiB
_ALIGNMENT = 64
_LOCAL_HEADER = 30  # bytes before the name of a member
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, EOFError)


def read(path: Path) -> Flat:
    """Return the read-only tensors of the file at `path` by name, with their stored data types.

    Nothing in the file is executed. Tensors that share a storage share memory.

    Raises:
        RequestError: it cannot be read, is malformed, has the format of PyTorch before 1.6, or contains anything but
            tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive, path)
    except OSError as error:
        raise read_error(path, error) from None
    except UnsupportedPickle as error:
        raise RequestError(
            f"{path} contains more than weights: {error}. It was not loaded, and nothing in it was executed. "
            "Use the model's model.safetensors instead, or a file from a source you trust."
        ) from None
    except zipfile.BadZipFile:
        raise RequestError(
            f"{path} is not a zip archive: it is corrupt, or has the format of PyTorch before 1.6. "
            "Download it again, or load and save it with a current PyTorch."
        ) from None
    except _MALFORMED as error:
        raise RequestError(f"{path} is malformed: {error}. Download it again.") from None


def write(path: Path, state: Mapping[str, Array]) -> None:
    """Write `state` to `path` as `torch.save` does. Names of the same array share its storage."""
    storages: dict[int, tuple[str, Array]] = {}
    specs: list[tuple[str, TensorSpec]] = []
    for name, array in state.items():
        key, _ = storages.setdefault(id(array), (str(len(storages)), array))
        strides = tuple(int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim))
        spec = TensorSpec(key, _STORAGE_OF[array.dtype], array.size, 0, tuple(array.shape), strides)
        specs.append((name, spec))
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        _add(archive, "data.pkl", write_state(specs))
        _add(archive, "byteorder", sys.byteorder.encode())
        for key, array in storages.values():
            _add(archive, f"data/{key}", array.tobytes())
        _add(archive, "version", b"3\n")


def _read_archive(archive: zipfile.ZipFile, path: Path) -> Flat:
    members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    for info in members.values():
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"'{info.filename}' is compressed, unlike files written by PyTorch")
    if sum(info.file_size for info in members.values()) > path.stat().st_size:
        raise ValueError("its members are larger than the file")
    if "data.pkl" not in members or members["data.pkl"].file_size > _MAX_PICKLE:
        raise ValueError("it has no data.pkl with the names of the weights")
    order = archive.read(members["byteorder"]).decode() if "byteorder" in members else "little"
    storages: dict[tuple[str, str], Array] = {}
    flat: Flat = {}
    for name, spec in read_state(archive.read(members["data.pkl"])).items():
        if spec.storage not in _STORAGES:
            raise UnsupportedPickle(f"'{name}' is stored in a torch.{spec.storage}, which is not for weights")
        storage = (spec.key, spec.storage)
        if storage not in storages:
            dtype = _STORAGES[spec.storage].newbyteorder("<" if order == "little" else ">")
            storages[storage] = np.frombuffer(archive.read(members[f"data/{spec.key}"]), dtype)
        flat[name] = _view(storages[storage], spec, name)
    return flat


def _view(storage: Array, spec: TensorSpec, name: str) -> Array:
    """Return the tensor `spec` as a view of `storage`, after checking its bounds."""
    numbers = (spec.offset, *spec.shape, *spec.strides)
    if len(spec.shape) != len(spec.strides) or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(f"'{name}' has the shape {spec.shape} and strides {spec.strides}")
    size = 1
    for length in spec.shape:
        size *= length
    last = spec.offset + sum((length - 1) * step for length, step in zip(spec.shape, spec.strides, strict=True))
    if size > storage.size or (size and last >= storage.size):
        raise ValueError(f"'{name}' exceeds its storage of {storage.size} elements")
    if not size:
        return np.empty(spec.shape, storage.dtype)
    strides = [step * storage.itemsize for step in spec.strides]
    return np.lib.stride_tricks.as_strided(storage[spec.offset :], spec.shape, strides, writeable=False)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add an uncompressed member whose content is aligned to 64 bytes, so that PyTorch can memory-map it."""
    info = zipfile.ZipInfo(f"archive/{name}", (1980, 1, 1, 0, 0, 0))
    assert archive.fp is not None
    start = archive.fp.tell() + _LOCAL_HEADER + len(info.filename) + 4
    padding = -start % _ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(info, content)
