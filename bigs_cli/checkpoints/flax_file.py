"""Reading and writing `flax_model.msgpack` in the format of `flax.serialization`.

The format is msgpack maps in which arrays have the extension type 1. An array is the packed
triple (shape, dtype name, bytes in C order). Arrays over 1 GiB are stored as a map of flat chunks. JAX is not used, and
at most one array is copied at a time.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import msgpack
import numpy as np

from bigs_cli.checkpoints.arrays import FLOATS, Array, Flat
from bigs_cli.core.error_messages import read_error
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import atomic_write
from bigs_cli.models.published import nested

_ARRAY = 1  # flax.serialization's extension type of an ndarray
_CHUNKED = "__msgpack_chunked_array__"
_CHUNK_BYTES = 2**30
_MAX_HEADER = 128  # bytes before the content of an array: shape and dtype name


def read(path: Path) -> Flat:
    """Return the read-only arrays of the file at `path` by their path in it, with their stored data types.

    Raises:
        RequestError: it cannot be read, or is not a tree of arrays.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            tree = msgpack.unpackb(content, ext_hook=_unpack_array)
    except OSError as error:
        raise read_error(path, error) from None
    except (ValueError, TypeError, KeyError, RecursionError, msgpack.UnpackException) as error:
        raise _malformed(path, str(error) or type(error).__name__) from None
    if not isinstance(tree, dict):
        raise _malformed(path, f"it contains a {type(tree).__name__}, not a tree of arrays")
    flat: Flat = {}
    _flatten(tree, "", flat, path)
    return flat


def write(path: Path, flat: Mapping[str, Array]) -> None:
    """Write `flat` to `path`, one array at a time, with the same bytes as `flax.serialization.to_bytes`."""
    with atomic_write(path) as file:
        _write_node(file, msgpack.Packer(), nested(dict(sorted(flat.items()))))


def _flatten(tree: dict[Any, Any], prefix: str, flat: Flat, path: Path) -> None:
    """Move the arrays of `tree` into `flat`; `tree` is emptied to save memory."""
    for name in list(tree):
        value = tree.pop(name)
        key = f"{prefix}{name}"
        if isinstance(value, dict) and _CHUNKED in value:
            value = _join_chunks(value, key, path)
        if isinstance(value, dict):
            _flatten(value, f"{key}/", flat, path)
        elif isinstance(value, np.ndarray):
            flat[key] = value
        else:
            raise _malformed(path, f"'{key}' is a {type(value).__name__}, not an array")


def _join_chunks(chunked: Mapping[str, Any], key: str, path: Path) -> Array:
    try:
        shape = tuple(int(chunked["shape"][str(axis)]) for axis in range(len(chunked["shape"])))
        chunks = [chunked["chunks"][str(index)] for index in range(len(chunked["chunks"]))]
        return np.concatenate(chunks).reshape(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise _malformed(path, f"the chunks of '{key}' do not match its shape ({error})") from None


def _unpack_array(code: int, data: bytes) -> Array:
    """Return the array in the extension `data` as a view, without a copy."""
    if code != _ARRAY:
        raise ValueError(f"extension type {code} is not an array")
    header = msgpack.Unpacker(raw=True)
    header.feed(data[:_MAX_HEADER])
    if header.read_array_header() != 3:
        raise ValueError("an array is not a triple of shape, type and bytes")
    shape, kind = header.unpack(), header.unpack()
    if not isinstance(shape, list) or not all(type(size) is int for size in shape) or not isinstance(kind, bytes):
        raise ValueError("the shape of an array is not a list of integers, or its data type is not text")
    name = kind.decode("ascii", "replace")
    if name not in FLOATS:
        raise ValueError(f"the data type {name} is not supported")
    size = math.prod(shape) * FLOATS[name].itemsize
    if min(shape, default=0) < 0 or not 2 <= len(data) - header.tell() - size <= 5:  # msgpack's length marker
        raise ValueError(f"an array of shape {shape} does not have {size} bytes")
    return np.frombuffer(data, FLOATS[name], math.prod(shape), len(data) - size).reshape(shape)


def _write_node(file: IO[bytes], packer: msgpack.Packer, node: Any) -> None:
    if isinstance(node, dict):
        file.write(packer.pack_map_header(len(node)))
        for name, value in node.items():
            file.write(packer.pack(name))
            _write_node(file, packer, value)
    elif isinstance(node, np.ndarray) and node.nbytes > _CHUNK_BYTES:
        _write_node(file, packer, _chunks(node))
    elif isinstance(node, np.ndarray):
        file.write(packer.pack(msgpack.ExtType(_ARRAY, msgpack.packb((node.shape, node.dtype.name, node.tobytes())))))
    else:
        file.write(packer.pack(node))


def _chunks(array: Array) -> dict[str, Any]:
    values, size = array.reshape(-1), _CHUNK_BYTES // array.dtype.itemsize
    pieces = [values[start : start + size] for start in range(0, values.size, size)]
    shape = {str(axis): length for axis, length in enumerate(array.shape)}
    return {
        _CHUNKED: True,
        "shape": shape,
        "chunks": {str(index): piece for index, piece in enumerate(pieces)},
    }


def _malformed(path: Path, reason: str) -> RequestError:
    return RequestError(f"{path} is not a Flax weights file: {reason}. Download it again, or repeat bigs export.")
