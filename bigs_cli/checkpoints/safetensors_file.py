"""Reading and writing `model.safetensors`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bigs_cli.checkpoints.arrays import Array, Flat
from bigs_cli.core.error_messages import read_error
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import apply_umask


def read(path: Path) -> Flat:
    """Return the arrays of the file at `path` by name, with their stored data types (bfloat16 as in ml_dtypes).

    Raises:
        RequestError: it cannot be read or is malformed.
    """
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except OSError as error:
        raise read_error(path, error) from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{path} is not a valid safetensors file: {error}. Download it again.") from None


def write(path: Path, state: Mapping[str, Array]) -> None:
    """Write `state` to `path` with the metadata ``format: pt``, which `transformers` requires."""
    # The library writes the memory of a view without its strides.
    save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, path, metadata={"format": "pt"})
    apply_umask(path)  # Newer releases of the library create the file without group and world permissions.
