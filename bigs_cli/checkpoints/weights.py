"""The weights files of a model folder: their names and formats, single files and shards.

A sharded file ``NAME`` consists of ``NAME.index.json`` and the shards listed in it, as written by `transformers`:

    {"metadata": …, "weight_map": {"bigs.encoder.layer.0.dv.weight": "model-00001-of-00002.safetensors", …}}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bigs_cli.checkpoints import flax_file, onnx_file, safetensors_file, torch_file
from bigs_cli.checkpoints.arrays import Flat, is_plain_name
from bigs_cli.core.errors import RequestError, did_you_mean, listed
from bigs_cli.core.json_objects import read_object

INDEX = ".index.json"


@dataclass(frozen=True)
class Format:
    """A format of weights files: its name for ``--from-format``, its reader, and whether tensors have Torch names."""

    name: str
    read: Callable[[Path], Flat]
    torch_names: bool
    shards: bool = True  # whether it can be sharded


# In order of preference: Flax is the format of the original code, and safetensors is safe by design.
WEIGHTS: dict[str, Format] = {
    "flax_model.msgpack": Format("flax", flax_file.read, torch_names=False),
    "model.safetensors": Format("safetensors", safetensors_file.read, torch_names=True),
    "pytorch_model.bin": Format("torch", torch_file.read, torch_names=True),
    "model.onnx": Format("onnx", onnx_file.read, torch_names=False, shards=False),
}


def candidates(form: str | None = None) -> list[str]:
    """Return the possible names of weights files, of all formats or only of `form`, in order of preference.

    Raises:
        RequestError: there is no such format.
    """
    names = [format.name for format in WEIGHTS.values()]
    if form is not None and form not in names:
        raise RequestError(
            f"There is no weights format '{form}'.{did_you_mean(form, names)} Choose --from-format from "
            f"{', '.join(names)}."
        )
    formats = {file: format for file, format in WEIGHTS.items() if form in (None, format.name)}
    return [file + suffix for file, format in formats.items() for suffix in ("", *[INDEX] * format.shards)]


def weights_in(folder: Path) -> list[str]:
    """Return the names of the weights files and indices in `folder`, in order of preference."""
    return [name for name in candidates() if (folder / name).is_file()]


def choose(folder: Path, form: str | None = None) -> Path:
    """Return the weights file in `folder`: the preferred one, or that of the format `form`.

    Raises:
        RequestError: there is none; the message lists the existing weights files.
    """
    names = candidates(form)
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder. Name a folder with a model.")
    existing = weights_in(folder)
    for name in existing:
        if name in names:
            return folder / name
    if not existing:
        raise RequestError(f"{folder} has no weights. {needed(form)}")
    raise RequestError(
        f"{folder} has no {names[0]}, {'nor shards of it, ' if len(names) > 1 else ''}but it has {listed(existing)}. "
        f"Use --from-format {' or '.join(_formats_of(existing))}, or leave it out."
    )


def needed(form: str | None = None) -> str:
    """Return a sentence with the names of the possible weights files."""
    files = [name for name in candidates(form) if not name.endswith(INDEX)]
    required = f"One of these is required: {', '.join(files)}" if len(files) > 1 else f"{files[0]} is required"
    if not any(WEIGHTS[name].shards for name in files):
        return f"{required}."
    return f"{required}, as a single file or as shards with {'an' if len(files) == 1 else 'their'} {INDEX[1:]}."


def parts(source: Path) -> list[str]:
    """Return the names of the files of the weights `source`: its own name, or those of the shards in the index.

    The index is not trusted: names that could lead out of the folder are errors.

    Raises:
        RequestError: the index cannot be read, is malformed, or names a file outside the folder.
    """
    if not source.name.endswith(INDEX):
        return [source.name]
    files = read_object(source, "Download it again.").get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
        raise RequestError(
            f'{source} is not an index of shards: it has no "weight_map" of tensors to files. Download it again.'
        )
    shards = sorted(set(files.values()))
    unsafe = [name for name in shards if not is_plain_name(name)]
    if unsafe:
        raise RequestError(
            f"{source} names {listed([repr(name) for name in unsafe])}, but shards must be in the same folder. Nothing "
            "was loaded; use a model from a source you trust."
        )
    return shards


def missing_parts(source: Path) -> list[str]:
    """Return the names of the `parts` of `source` that are missing from its folder."""
    return [name for name in parts(source) if not (source.parent / name).is_file()]


def read_weights(source: Path) -> Flat:
    """Return the tensors in `source`, a single file or an index of shards, by name.

    Raises:
        RequestError: a file is missing or malformed, or a tensor is in two shards.
    """
    missing = missing_parts(source)
    if missing and source.name.endswith(INDEX):
        raise RequestError(
            f"{source.parent} lacks {len(missing)} of the {len(parts(source))} shards listed in {source.name}: "
            f"{listed(missing)}. Download them."
        )
    state: Flat = {}
    for part in parts(source):
        shard = format_of(source).read(source.parent / part)
        duplicates = sorted(shard.keys() & state.keys())
        if duplicates:
            raise RequestError(
                f"{source.parent / part} has tensors that are also in another shard: {listed(duplicates)}. Download "
                "all shards again."
            )
        state |= shard
    return state


def format_of(source: Path) -> Format:
    """Return the format of the weights file or index `source`."""
    return WEIGHTS[source.name.removesuffix(INDEX)]


def has_torch_names(source: Path, names: Iterable[str]) -> bool:
    """Return whether the tensor `names` in `source` are those of the PyTorch port, and not published Flax paths.

    Flax paths contain ``/``, Torch names contain dots; the majority decides.
    """
    paths = ["/" in name for name in names]
    return format_of(source).torch_names and 2 * sum(paths) <= len(paths)


def _formats_of(files: list[str]) -> list[str]:
    return list(dict.fromkeys(WEIGHTS[name.removesuffix(INDEX)].name for name in files))
