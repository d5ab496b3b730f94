"""`onnx`: the forward pass with constant mixing matrices, for any number of rows; optionally with 8-bit matrices.

Weights have the names of the Flax layout, so that the file can be read back as a model. The SSM parameters, which the
graph does not contain, are stored in the metadata.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from bigs_cli.checkpoints.arrays import Array
from bigs_cli.checkpoints.config_json import write_config
from bigs_cli.checkpoints.folder import CONFIG
from bigs_cli.checkpoints.onnx_file import SSM_METADATA
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.core.errors import BigsError
from bigs_cli.export.check import largest_difference
from bigs_cli.export.forward import OUTPUTS, make_forward
from bigs_cli.export.int8 import to_int8
from bigs_cli.export.labelled import agreement, labelled_examples
from bigs_cli.export.settings import Format, Inputs, Readback, Run, Settings, inputs_of
from bigs_cli.models.published import completed, is_ssm

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
MAX_SINGLE_FILE = 1_500_000_000  # bytes; protobuf is limited to 2 GiB, so larger weights go to a separate file


def file_names(settings: Settings) -> dict[int, str]:
    """Return length → file name: model.onnx for the greatest length, model-LENGTH.onnx for others."""
    longest = max(settings.lengths)
    return {length: "model.onnx" if length == longest else f"model-{length}.onnx" for length in settings.lengths}


def write(folder: Path, model: OpenModel, settings: Settings) -> None:
    """Write config.json and one file per length; with `settings.int8`, also one with 8-bit matrices.

    Raises:
        BigsError: jax2onnx or onnxruntime is not installed.
    """
    _require("jax2onnx", "onnx", "onnxruntime")
    import onnx  # pyright: ignore[reportMissingImports]

    write_config(folder / CONFIG, model.config)
    for length, name in file_names(settings).items():
        _save(_convert(model, length), folder / name)
        if settings.int8:
            _save(to_int8(onnx.load(folder / name)), folder / _int8(name))


def read_back(folder: Path, model: OpenModel, settings: Settings) -> Iterator[Readback]:
    """Run each file in onnxruntime."""
    for length, name in file_names(settings).items():
        yield Readback(name, session_run(folder / name), (length,))
        if settings.int8:
            yield Readback(_int8(name), session_run(folder / _int8(name)), (length,), exact=False)


def int8_notes(folder: Path, model: OpenModel, settings: Settings) -> list[str]:
    """Return sentences on the size of the 8-bit files, the differences of their outputs, and their accuracy.

    They are measured on the dev examples of the model's run; without a run, the differences are on random ids.
    """
    notes = []
    for length, name in file_names(settings).items():
        size, small = ((folder / file).stat().st_size for file in (name, _int8(name)))
        notes.append(f"{_int8(name)}: {small / 1e6:,.1f} MB instead of {size / 1e6:,.1f}.")
        exact, quantized = (session_run(folder / file) for file in (name, _int8(name)))
        examples = labelled_examples(model, length)
        inputs = inputs_of(model, length, rows=16) if examples is None else examples.first_batch()
        notes.append(f"{_int8(name)}: {_batch_agreement(exact, quantized, inputs)}")
        if examples is None:
            notes.append(f"{_int8(name)}: accuracy not measured: there are no dev predictions with one label per text.")
        else:
            notes.append(f"{_int8(name)}: {agreement(model.config, examples, exact, quantized)}")
    return notes


def _batch_agreement(exact: Run, quantized: Run, inputs: Inputs) -> str:
    """Describe the differences between the exact outputs and the quantized ones, computed as one batch and row by row.

    Those of the same row in the batch and on its own are also compared.
    """
    expected, batched = exact(inputs), quantized(inputs)
    rows = [quantized(Inputs(*(array[i : i + 1] for array in inputs))) for i in range(len(inputs.ids))]
    single = [np.concatenate(outputs) for outputs in zip(*rows, strict=True)]
    return (
        f"outputs differ from float32 by {largest_difference(expected, batched):.1e} of the largest output in a batch "
        f"of {len(rows)}, and by {largest_difference(expected, single):.1e} in single rows; those of the same row in a "
        f"batch and alone differ by {largest_difference(batched, single):.1e}."
    )


def session_run(path: Path) -> Run:
    """Return a function that runs the ONNX file at `path` on a batch."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> list[Array]:
        feed = {name: np.asarray(array, np.int64) for name, array in zip(INPUTS, inputs, strict=True)}
        return [np.asarray(output) for output in session.run(None, feed)]

    return run


def _require(*packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise BigsError(f"The format onnx needs {', '.join(missing)}. Install them with: pip install 'bigs[onnx]'")


def _convert(model: OpenModel, length: int) -> Any:
    """Return the ONNX model for rows of `length` tokens."""
    from jax2onnx import to_onnx  # pyright: ignore[reportMissingImports]
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

    config, flat = model.config, completed(model.flat, model.config)
    forward = make_forward(flat, config, length)
    # An unused input would still be required by callers, so the SSM parameters are not inputs.
    paths = [path for path in flat if not is_ssm(path)]

    def run(ids: Any, mask: Any, types: Any, *weights: Any) -> tuple[jax.Array, ...]:
        return forward(dict(zip(paths, weights, strict=True)), ids, mask, types)

    rows = ("B", "C") if config.has_choices else ("B",)
    ids = jax.ShapeDtypeStruct((*rows, length), jnp.int32)  # pyright: ignore[reportArgumentType] - named sizes
    shapes = [jax.ShapeDtypeStruct(flat[path].shape, jnp.float32) for path in paths]
    with _quiet():
        onnx_model: Any = to_onnx(
            run,
            [ids, ids, ids, *shapes],
            input_names=[*INPUTS, *paths],
            output_names=list(OUTPUTS[config.head]),
            model_name="bigs",
            normalization_mode="prefer_native",
        )
    graph = onnx_model.graph
    used = {name for node in graph.node for name in node.input}
    inputs = [value for value in graph.input if value.name in INPUTS]
    del graph.input[:]
    graph.input.extend(inputs)
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(flat[path]), path) for path in paths if path in used
    )
    _accept_int64(graph)
    kernels = save({path: np.ascontiguousarray(array) for path, array in flat.items() if is_ssm(path)})
    for key, value in ((SSM_METADATA, base64.b64encode(kernels).decode()), ("bigs.length", str(length))):
        entry = onnx_model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx_model.producer_name, onnx_model.producer_version = "bigs", version("bigs")
    return onnx_model


def _accept_int64(graph: Any) -> None:
    """Change the inputs to int64, the type that tokenizers and runtimes around `transformers` use."""
    from onnx import TensorProto, helper  # pyright: ignore[reportMissingImports]

    for value in graph.input:
        cast = f"{value.name}_int32"
        for node in graph.node:
            node.input[:] = [cast if name == value.name else name for name in node.input]
        value.type.tensor_type.elem_type = TensorProto.INT64
    casts = [helper.make_node("Cast", [v.name], [f"{v.name}_int32"], to=TensorProto.INT32) for v in graph.input]
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _save(onnx_model: Any, path: Path) -> None:
    import onnx  # pyright: ignore[reportMissingImports]

    large = onnx_model.ByteSize() > MAX_SINGLE_FILE
    onnx.save_model(onnx_model, path, save_as_external_data=large, location=f"{path.name}_data" if large else None)
    onnx.checker.check_model(str(path))


def _int8(name: str) -> str:
    return name.replace(".onnx", "-int8.onnx")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the log messages and warnings of the converters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


SNIPPET = """import numpy as np
import onnxruntime as ort
{numpy_inputs}
session = ort.InferenceSession("{folder}/{file}")
{outputs} = session.run(None, {{"input_ids": ids, "attention_mask": mask, "token_type_ids": types}})
"""

ONNX = Format(
    "onnx",
    "a graph of matrix products for onnxruntime and others",
    write,
    read_back,
    SNIPPET,
    fixes_length=True,
)
