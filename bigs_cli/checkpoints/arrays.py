"""Helpers for all weights files: data types, digests, and checks of file names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from bigs_cli.core.errors import RequestError

Array = np.ndarray[Any, np.dtype[Any]]
Flat = dict[str, Array]

FLOATS: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

_PLAIN_NAME = re.compile(r"\w[\w.-]{,200}")  # No path separators and no glob characters.


def to_float32(array: Array, name: str, file: Path) -> Array:
    """Return `array` as float32, without a copy if it already is.

    Raises:
        RequestError: it is not an array of floating-point numbers; integers are quantized weights.
    """
    if array.dtype not in FLOATS.values():
        raise RequestError(
            f"{file}: '{name}' has the data type {array.dtype.name}; only {', '.join(FLOATS)} are supported. Quantized "
            "weights cannot be loaded: use the model's float32 or bfloat16 weights."
        )
    return array.astype(np.float32, copy=False)


def digest(flat: Mapping[str, Array]) -> str:
    """Return the first 16 digits of a SHA-256 of all names, data types, shapes and values."""
    sha256 = hashlib.sha256()
    for name, array in sorted(flat.items()):
        sha256.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        sha256.update(np.ascontiguousarray(array).view(np.uint8).data)
    return sha256.hexdigest()[:16]


def is_plain_name(name: str) -> bool:
    """Return whether the untrusted file name `name` cannot lead out of a folder."""
    return _PLAIN_NAME.fullmatch(name) is not None and ".." not in name
