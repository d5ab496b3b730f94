"""`model.safetensors`, through the safetensors library."""

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
    """Return the arrays of the file at `path` by name, in the file's number formats (bfloat16 is ml_dtypes').

    Raises:
        RequestError: it is absent or malformed.
    """
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except OSError as error:
        raise read_error(path, error) from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{path} is not a safetensors file that can be read: {error}. Fetch it again.") from None


def write(path: Path, state: Mapping[str, Array]) -> None:
    """Write `state` to `path`, marked as PyTorch's (``format: pt``), which `transformers` asks for."""
    # The library writes memory as it lies: a transposed view would come back unturned.
    save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, path, metadata={"format": "pt"})
    apply_umask(path)  # newer releases of the library write a private temporary file and rename it
