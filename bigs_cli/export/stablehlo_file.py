"""`stablehlo`: the forward pass, serialized by `jax.export` for CPU, GPU and TPU and for any number of rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from bigs_cli.checkpoints import safetensors_file
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.export.forward import make_forward
from bigs_cli.export.settings import Format, Readback, Run, Settings
from bigs_cli.export.weights import write_safetensors
from bigs_cli.models.published import completed

PLATFORMS = ("cpu", "cuda", "tpu")


def file_name(length: int) -> str:
    """Return the name of the file for rows of `length` tokens."""
    return f"model-{length}.stablehlo"


def write(folder: Path, model: OpenModel, settings: Settings) -> None:
    """Write one program per length, and the weights, under our own parameter names.

    The weights are the first argument of each program.
    """
    flat = completed(model.flat, model.config)
    write_safetensors(folder, model.config, flat)
    weights = {path: jax.ShapeDtypeStruct(array.shape, jnp.float32) for path, array in flat.items()}
    for length in settings.lengths:
        forward = make_forward(flat, model.config, length)
        rows = "B, C" if model.config.has_choices else "B"
        ids = jax.ShapeDtypeStruct(jax.export.symbolic_shape(f"{rows}, {length}"), jnp.int32)
        with _without_source_paths():
            program = jax.export.export(jax.jit(forward), platforms=PLATFORMS)(weights, ids, ids, ids)
        (folder / file_name(length)).write_bytes(program.serialize())


@contextlib.contextmanager
def _without_source_paths() -> Iterator[None]:
    """Keep the paths of source files, which include folders of this machine, out of the traced program."""
    changes = {"jax_traceback_in_locations_limit": 0, "jax_hlo_source_file_canonicalization_regex": ".*"}
    before = {name: getattr(jax.config, name) for name in changes}
    for name, value in changes.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def read_back(folder: Path, model: OpenModel, settings: Settings) -> Iterator[Readback]:
    """Load each program and the weights as a user does."""
    for length in settings.lengths:
        yield Readback(file_name(length), program_run(folder, length), (length,))


def program_run(folder: Path, length: int) -> Run:
    """Return a function that runs the program for rows of `length` tokens."""
    weights = {path: jnp.asarray(array) for path, array in safetensors_file.read(folder / "model.safetensors").items()}
    program: Any = jax.export.deserialize(bytearray((folder / file_name(length)).read_bytes()))
    call = jax.jit(program.call)
    return lambda inputs: [np.asarray(output) for output in call(weights, *inputs)]


SNIPPET = """from pathlib import Path

import jax.export
import numpy as np
from safetensors.numpy import load_file
{numpy_inputs}
program = jax.export.deserialize(bytearray(Path("{folder}/{file}").read_bytes()))
weights = load_file("{folder}/model.safetensors")
{outputs} = program.call(weights, *(array.astype(np.int32) for array in (ids, mask, types)))
"""

STABLEHLO = Format(
    "stablehlo",
    "programs for CPU, GPU and TPU that jax.export loads, and their weights",
    write,
    read_back,
    SNIPPET,
    fixes_length=True,
)
