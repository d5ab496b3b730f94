"""The formats that contain only weights: the two published layouts and our own. `bigs` reads all of them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bigs_cli.checkpoints import safetensors_file
from bigs_cli.checkpoints.arrays import FLOATS, Flat
from bigs_cli.checkpoints.config_json import write_config
from bigs_cli.checkpoints.folder import CONFIG, read_model, write_flax, write_torch
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.export.check import model_run
from bigs_cli.export.original import ORIGINAL, TORCH_PORT
from bigs_cli.export.settings import Format, Readback, Settings, WeightType
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.published import is_ssm

Writer = Callable[[Path, BiGSConfig, Flat], None]


def stored(flat: Flat, dtype: WeightType) -> Flat:
    """Return `flat` in `dtype`, except the SSM parameters: rounding them would change the kernels."""
    return {path: array if is_ssm(path) else array.astype(FLOATS[dtype], copy=False) for path, array in flat.items()}


def write_safetensors(folder: Path, config: BiGSConfig, flat: Flat) -> None:
    """Write config.json and a model.safetensors with our parameter names, which are those of the Flax layout."""
    write_config(folder / CONFIG, config)
    safetensors_file.write(folder / "model.safetensors", flat)


def _write(writer: Writer, folder: Path, model: OpenModel, settings: Settings) -> None:
    writer(folder, model.config, stored(model.flat, settings.dtype))


def _read_back(files: tuple[str, ...], folder: Path, model: OpenModel, settings: Settings) -> Iterator[Readback]:
    for file in files:
        loaded = read_model(folder, file)
        yield Readback(file, model_run(loaded.config, loaded.flat), settings.lengths, settings.dtype == "float32")


_LOAD = """from bigs_cli import load_model

model = load_model("{folder}")
"""

FLAX = Format(
    "flax",
    "flax_model.msgpack, the published layout, for the original Flax code",
    partial(_write, write_flax),
    partial(_read_back, ("flax_model.msgpack",)),
    _LOAD,
    stores_dtype=True,
    tool=ORIGINAL,
)
TORCH = Format(
    "torch",
    "model.safetensors and pytorch_model.bin, the layout of the original's PyTorch port",
    partial(_write, write_torch),
    partial(_read_back, ("model.safetensors", "pytorch_model.bin")),
    _LOAD,
    stores_dtype=True,
    tool=TORCH_PORT,
)
SAFETENSORS = Format(
    "safetensors",
    "model.safetensors with the names of the Flax layout, for any tool that reads arrays",
    partial(_write, write_safetensors),
    partial(_read_back, ("model.safetensors",)),
    """from safetensors.numpy import load_file

arrays = load_file("{folder}/model.safetensors")  # "s4_bert/encoder/layer/0/dv/kernel": [in, out], …
""",
    stores_dtype=True,
)
