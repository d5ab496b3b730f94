"""Reading a model back from the `model.onnx` of `bigs export --format onnx`.

Weights are initializers with Flax paths as names. The graph contains the SSM kernels instead of the SSM parameters, so
these are stored in the metadata, as a safetensors file in base64.
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
        RequestError: it cannot be read, is malformed, was not written by bigs, or a file with its weights is missing.
        BigsError: the package onnx is not installed.
    """
    if find_spec("onnx") is None:
        raise BigsError(f"Reading {path.name} requires the package onnx. Install it with: pip install 'bigs[onnx]'")
    import onnx  # pyright: ignore[reportMissingImports]
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

    try:
        model: Any = onnx.load_model(str(path), load_external_data=False)
    except OSError as error:
        raise read_error(path, error) from None
    except (DecodeError, ValueError) as error:
        raise RequestError(f"{path} is not an ONNX file ({error}). Download or export it again.") from None
    ssm_parameters = [entry.value for entry in model.metadata_props if entry.key == SSM_METADATA]
    if not ssm_parameters:
        raise RequestError(
            f"{path} has no state-space parameters, only values computed from them. It was written by an older release "
            "of bigs or by another tool. Use the model from which it was exported."
        )
    try:
        flat: Flat = safetensors.numpy.load(base64.b64decode(ssm_parameters[0], validate=True))
    except (binascii.Error, safetensors.SafetensorError, ValueError) as error:
        raise RequestError(f"{path}: its state-space parameters are malformed ({error}). Export it again.") from None
    for tensor in model.graph.initializer:
        if _PARAMETER.match(tensor.name):
            _check_location(tensor, path)
            try:
                flat[tensor.name] = numpy_helper.to_array(tensor, str(path.parent))
            except (OSError, ValueError, TypeError) as error:
                raise RequestError(f"{path}: '{tensor.name}' cannot be read ({error}). Export it again.") from None
    return flat


def _check_location(tensor: Any, path: Path) -> None:
    """Raise RequestError if a tensor is stored in a file outside the folder of the model, or in a missing file."""
    for entry in tensor.external_data:
        if entry.key != "location":
            continue
        if not is_plain_name(entry.value):
            raise RequestError(
                f"{path} names {entry.value!r} as a weights file; only files in the same folder can be used."
            )
        if not (path.parent / entry.value).is_file():
            raise RequestError(f"{path} has its weights in {entry.value}, which is missing. Download that file too.")
