"""`model.onnx`, as `bigs export --format onnx` writes it, read back as a model: its initializers and its metadata.

Weights are initializers under their names of the Flax layout. Of the state-space parameters the graph needs only the
kernels, so they stand in the file's metadata: a safetensors file in base64.
"""

from __future__ import annotations

import base64
import binascii
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy

from bigs_cli.checkpoints.arrays import Flat, is_plain_name
from bigs_cli.core.error_messages import read_error
from bigs_cli.core.errors import BigsError, RequestError

SSM_METADATA = "bigs.state_space_parameters"
_PARAMETER = re.compile(r"(s4_bert/)?(embeddings|encoder|pooler)/|(cls|classifier|qa_outputs)/")


def read(path: Path) -> Flat:
    """Return the arrays of the file at `path` by their Flax path.

    Raises:
        RequestError: it is absent, malformed, or no file that bigs wrote, or a file with its weights is not beside it.
        BigsError: the package onnx is not installed.
    """
    if find_spec("onnx") is None:
        raise BigsError(f"To read {path.name} takes the package onnx: pip install 'bigs[onnx]'")
    import onnx  # pyright: ignore[reportMissingImports]
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

    try:
        model: Any = onnx.load_model(str(path), load_external_data=False)
    except OSError as error:
        raise read_error(path, error) from None
    except (DecodeError, ValueError) as error:
        raise RequestError(f"{path} is not an ONNX file ({error}). Fetch or export it again.") from None
    kept = [entry.value for entry in model.metadata_props if entry.key == SSM_METADATA]
    if not kept:
        raise RequestError(
            f"{path} has no state-space parameters, only what is computed from them: bigs did not write it, or an "
            "older one did. Use the model it was made from."
        )
    try:
        flat: Flat = safetensors.numpy.load(base64.b64decode(kept[0], validate=True))
    except (binascii.Error, safetensors.SafetensorError, ValueError) as error:
        raise RequestError(f"{path}: its state-space parameters are malformed ({error}). Export it again.") from None
    for tensor in model.graph.initializer:
        if _PARAMETER.match(tensor.name):
            _check_place(tensor, path)
            try:
                flat[tensor.name] = numpy_helper.to_array(tensor, str(path.parent))
            except (OSError, ValueError, TypeError) as error:
                raise RequestError(f"{path}: '{tensor.name}' cannot be read ({error}). Export it again.") from None
    return flat


def _check_place(tensor: Any, path: Path) -> None:
    """Refuse a tensor that lies anywhere but in a file beside this one."""
    for entry in tensor.external_data:
        if entry.key != "location":
            continue
        if not is_plain_name(entry.value):
            raise RequestError(f"{path} names {entry.value!r} as a file of weights: none but its neighbours are read.")
        if not (path.parent / entry.value).is_file():
            raise RequestError(f"{path} has its weights in {entry.value}, which is not beside it. Fetch that too.")
