"""The weights of a model folder: which files there are, whole or in shards, and what is in them.

A sharded file ``NAME`` stands as ``NAME.index.json`` and the files that this index names, as `transformers` writes
them:

    {"metadata": …, "weight_map": {"bigs.encoder.layer.0.dv.weight": "model-00001-of-00002.safetensors", …}}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bigs_cli.checkpoints import flax_file, onnx_file, safetensors_file, torch_file
from bigs_cli.checkpoints.arrays import Flat, is_plain_name
from bigs_cli.core.error_messages import read_error
from bigs_cli.core.errors import RequestError, did_you_mean, listed
from bigs_cli.core.files import parse_json

INDEX = ".index.json"


@dataclass(frozen=True)
class Format:
    """A kind of weights file: its name for ``--from-format``, its reader, and whose names its tensors usually have."""

    name: str
    read: Callable[[Path], Flat]
    torch_names: bool
    shards: bool = True  # whether it may stand in shards with an index


# In order of preference: the Flax file is the original's own, safetensors cannot hold anything but arrays.
WEIGHTS: dict[str, Format] = {
    "flax_model.msgpack": Format("flax", flax_file.read, torch_names=False),
    "model.safetensors": Format("safetensors", safetensors_file.read, torch_names=True),
    "pytorch_model.bin": Format("torch", torch_file.read, torch_names=True),
    "model.onnx": Format("onnx", onnx_file.read, torch_names=False, shards=False),
}


def candidates(form: str | None = None) -> list[str]:
    """Return the names that a weights file can have, of the format named `form` only if given, the preferred first.

    Raises:
        RequestError: there is no such format.
    """
    names = [format.name for format in WEIGHTS.values()]
    if form is not None and form not in names:
        raise RequestError(
            f"There are no weights '{form}'.{did_you_mean(form, names)} --from-format takes {', '.join(names)}."
        )
    wanted = {file: format for file, format in WEIGHTS.items() if form in (None, format.name)}
    return [file + suffix for file, format in wanted.items() for suffix in ("", *[INDEX] * format.shards)]


def weights_in(folder: Path) -> list[str]:
    """Return the names of the weights files in `folder`, whole files and indices, the preferred first."""
    return [name for name in candidates() if (folder / name).is_file()]


def choose(folder: Path, form: str | None = None) -> Path:
    """Return the weights file of `folder` to read: the preferred one, or that of the format named `form`.

    Raises:
        RequestError: there is none; the sentence names those that are there.
    """
    wanted = candidates(form)
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder. Name one that holds a model.")
    there = weights_in(folder)
    for name in there:
        if name in wanted:
            return folder / name
    if not there:
        raise RequestError(f"{folder} holds no weights. {needed(form)}")
    raise RequestError(
        f"{folder} holds no {wanted[0]}{', whole or sharded' if len(wanted) > 1 else ''}. There is {listed(there)}: "
        f"--from-format {' or '.join(_formats_of(there))}, or leave it out."
    )


def needed(form: str | None = None) -> str:
    """Return the sentence about the files one of which is missed."""
    files = [name for name in candidates(form) if not name.endswith(INDEX)]
    either = f"One of these is needed: {', '.join(files)}" if len(files) > 1 else f"It takes {files[0]}"
    if not any(WEIGHTS[name].shards for name in files):
        return f"{either}."
    return f"{either}, whole or as shards with {'its' if len(files) == 1 else 'their'} {INDEX[1:]}."


def parts(source: Path) -> list[str]:
    """Return the names of the files that the weights in `source` are in: itself, or the shards its index names.

    The index is not trusted: a name is refused unless it is plain, so that no file outside the folder is read.

    Raises:
        RequestError: the index cannot be read, is malformed, or names a file that is not beside it.
    """
    if not source.name.endswith(INDEX):
        return [source.name]
    try:
        index = parse_json(source.read_bytes())
    except OSError as error:
        raise read_error(source, error) from None
    except ValueError as error:
        raise RequestError(f"{source} is not JSON: {error}. Fetch the file again.") from None
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(place, str) for place in places.values()):
        raise RequestError(
            f'{source} is no index of shards: it has no "weight_map" of tensors to files. Fetch it again.'
        )
    shards = sorted(set(places.values()))
    strange = [name for name in shards if not is_plain_name(name)]
    if strange:
        raise RequestError(
            f"{source} names {listed([repr(name) for name in strange])}: a shard lies beside its index, under a plain "
            "name. Nothing was read; use a model from a source you trust."
        )
    return shards


def missing_parts(source: Path) -> list[str]:
    """Return the names of those `parts` of the weights in `source` that are not in its folder."""
    return [name for name in parts(source) if not (source.parent / name).is_file()]


def read_weights(source: Path) -> Flat:
    """Return the tensors in `source`, a whole file or the index of a sharded one, by their names in it.

    Raises:
        RequestError: a file is absent or malformed, or a tensor stands in two shards.
    """
    missing = missing_parts(source)
    if missing and source.name.endswith(INDEX):
        raise RequestError(
            f"{source.parent} lacks {len(missing)} of the {len(parts(source))} shards that {source.name} names: "
            f"{listed(missing)}. Fetch them again."
        )
    state: Flat = {}
    for part in parts(source):
        shard = format_of(source).read(source.parent / part)
        twice = sorted(shard.keys() & state.keys())
        if twice:
            raise RequestError(
                f"{source.parent / part} holds what another shard holds too: {listed(twice)}. Fetch all shards again."
            )
        state |= shard
    return state


def format_of(source: Path) -> Format:
    """Return the format of the weights file, or index, at `source`."""
    return WEIGHTS[source.name.removesuffix(INDEX)]


def has_torch_names(source: Path, names: Iterable[str]) -> bool:
    """Say whether the tensor `names` in `source` are the Torch port's, or else published Flax paths.

    Flax paths are written with ``/``, Torch names with dots; a few strange ones among many change nothing.
    """
    paths = ["/" in name for name in names]
    return format_of(source).torch_names and 2 * sum(paths) <= len(paths)


def _formats_of(files: list[str]) -> list[str]:
    return list(dict.fromkeys(WEIGHTS[name.removesuffix(INDEX)].name for name in files))
