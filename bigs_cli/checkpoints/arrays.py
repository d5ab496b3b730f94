"""What all weights files share: the number formats read, all made float32, and which names of files are trusted."""

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

_PLAIN_NAME = re.compile(r"\w[\w.-]{,200}")  # no folder, no way out of this one, nothing that a pattern would expand


def to_float32(array: Array, name: str, file: Path) -> Array:
    """Return `array` as float32, itself where it is that already.

    Raises:
        RequestError: it holds no floating-point numbers. Weights that are integers are quantized ones.
    """
    if array.dtype not in FLOATS.values():
        raise RequestError(
            f"{file}: '{name}' holds {array.dtype.name} numbers; weights are {', '.join(FLOATS)}. "
            "Quantized files are not read: use the model's float32 or bfloat16 weights."
        )
    return array.astype(np.float32, copy=False)


def digest(flat: Mapping[str, Array]) -> str:
    """Return the beginning of a SHA-256 of all names, number formats, shapes and numbers."""
    made = hashlib.sha256()
    for name, array in sorted(flat.items()):
        made.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        made.update(np.ascontiguousarray(array).view(np.uint8).data)
    return made.hexdigest()[:16]


def is_plain_name(name: str) -> bool:
    """Say whether a file that is called `name` lies in the folder it is looked for in, whoever wrote the name."""
    return _PLAIN_NAME.fullmatch(name) is not None and ".." not in name
