"""`onnx`: the forward pass as matrix products, kernels as constants, for any number of rows; int8 on demand.

Weights keep their names of the Flax layout, so that the file can be read back as a model. The state-space parameters,
of which it needs only the kernels, go along in its metadata.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import warnings
from collections.abc import Iterator
from importlib.metadata import version
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
LARGEST_SINGLE_FILE = 1_500_000_000  # bytes; a protobuf ends at 2 GiB, and larger weights lie beside it


def file_names(settings: Settings) -> dict[int, str]:
    """Return the name of the file for rows of each length: model.onnx for the longest, model-LENGTH.onnx."""
    longest = max(settings.lengths)
    return {length: "model.onnx" if length == longest else f"model-{length}.onnx" for length in settings.lengths}


def write(folder: Path, model: OpenModel, settings: Settings) -> None:
    """Write config.json and one file a length, and with `settings.int8` one of 8-bit matrices beside each.

    Raises:
        BigsError: jax2onnx or onnxruntime is not installed.
    """
    _needs("jax2onnx", "onnx", "onnxruntime")
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
    """Say what 8-bit matrices save, how far outputs are from float32, and what accuracy they cost.

    Measured on the dev examples of the model's run, or, for outputs only, on random ids.
    """
    notes = []
    for length, name in file_names(settings).items():
        size, small = ((folder / file).stat().st_size for file in (name, _int8(name)))
        notes.append(f"{_int8(name)}: {small / 1e6:,.1f} MB instead of {size / 1e6:,.1f}.")
        exact, changed = (session_run(folder / file) for file in (name, _int8(name)))
        examples = labelled_examples(model, length)
        inputs = inputs_of(model, length, rows=16) if examples is None else examples.first_batch()
        notes.append(f"{_int8(name)}: {_batch_agreement(exact, changed, inputs)}")
        if examples is None:
            notes.append(f"{_int8(name)}: accuracy not measured: the model comes from no run with labelled texts.")
        else:
            notes.append(f"{_int8(name)}: {agreement(model.config, examples, exact, changed)}")
    return notes


def _batch_agreement(exact: Run, changed: Run, inputs: Inputs) -> str:
    """Say how far outputs are from the exact ones, in a batch and row by row, and these from each other."""
    expected, together = exact(inputs), changed(inputs)
    rows = [changed(Inputs(*(array[i : i + 1] for array in inputs))) for i in range(len(inputs.ids))]
    alone = [np.concatenate(outputs) for outputs in zip(*rows, strict=True)]
    return (
        f"outputs differ from float32 by {largest_difference(expected, together):.1e} of the largest in a batch of "
        f"{len(rows)}, and by {largest_difference(expected, alone):.1e} with each row alone; in the batch and alone "
        f"they differ by {largest_difference(together, alone):.1e}."
    )


def session_run(path: Path) -> Run:
    """Return a function that runs the ONNX file at `path` on a batch."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> list[Array]:
        given = {name: np.asarray(array, np.int64) for name, array in zip(INPUTS, inputs, strict=True)}
        return [np.asarray(output) for output in session.run(None, given)]

    return run


def _needs(*packages: str) -> None:
    from importlib.util import find_spec

    absent = [name for name in packages if find_spec(name) is None]
    if absent:
        raise BigsError(f"The format onnx needs {', '.join(absent)}. Install them with: pip install 'bigs[onnx]'")


def _convert(model: OpenModel, length: int) -> Any:
    """Return the ONNX model for rows of `length` tokens."""
    from jax2onnx import to_onnx  # pyright: ignore[reportMissingImports]
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

    config, flat = model.config, completed(model.flat, model.config)
    forward = make_forward(flat, config, length)
    # An input that the program does not use would be one that callers must give.
    paths = [path for path in flat if not is_ssm(path)]

    def run(ids: Any, mask: Any, types: Any, *weights: Any) -> tuple[jax.Array, ...]:
        return forward(dict(zip(paths, weights, strict=True)), ids, mask, types)

    rows = ("B", "C") if config.head == "multiple-choice" else ("B",)
    ids = jax.ShapeDtypeStruct((*rows, length), jnp.int32)  # pyright: ignore[reportArgumentType] - named sizes
    shapes = [jax.ShapeDtypeStruct(flat[path].shape, jnp.float32) for path in paths]
    with _quiet():
        made: Any = to_onnx(
            run,
            [ids, ids, ids, *shapes],
            input_names=[*INPUTS, *paths],
            output_names=list(OUTPUTS[config.head]),
            model_name="bigs",
            normalization_mode="prefer_native",
        )
    graph = made.graph
    used = {name for node in graph.node for name in node.input}
    kept = [value for value in graph.input if value.name in INPUTS]
    del graph.input[:]
    graph.input.extend(kept)
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(flat[path]), path) for path in paths if path in used
    )
    _take_int64(graph)
    kernels = save({path: np.ascontiguousarray(array) for path, array in flat.items() if is_ssm(path)})
    _describe(made, {SSM_METADATA: base64.b64encode(kernels).decode(), "bigs.length": str(length)})
    made.producer_name, made.producer_version = "bigs", version("bigs")
    return made


def _take_int64(graph: Any) -> None:
    """Let the inputs be int64, as every tokenizer and runtime around `transformers` gives them."""
    from onnx import TensorProto, helper  # pyright: ignore[reportMissingImports]

    for value in graph.input:
        inside = f"{value.name}_int32"
        for node in graph.node:
            node.input[:] = [inside if name == value.name else name for name in node.input]
        value.type.tensor_type.elem_type = TensorProto.INT64
    casts = [helper.make_node("Cast", [v.name], [f"{v.name}_int32"], to=TensorProto.INT32) for v in graph.input]
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _describe(made: Any, values: dict[str, str]) -> None:
    for key, value in values.items():
        entry = made.metadata_props.add()
        entry.key, entry.value = key, value


def _save(made: Any, path: Path) -> None:
    import onnx  # pyright: ignore[reportMissingImports]

    large = made.ByteSize() > LARGEST_SINGLE_FILE
    onnx.save_model(made, path, save_as_external_data=large, location=f"{path.name}_data" if large else None)
    onnx.checker.check_model(str(path))


def _int8(name: str) -> str:
    return name.replace(".onnx", "-int8.onnx")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep converters from telling users about their own insides."""
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

ONNX = Format("a graph of matrix products for onnxruntime and others", write, read_back, SNIPPET, fixes_length=True)
