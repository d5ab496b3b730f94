"""Vocabularies, configs and weights."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bigs_cli.checkpoints import flax_file, safetensors_file, torch_file
from bigs_cli.checkpoints.config_json import config_values, read_config
from bigs_cli.checkpoints.folder import read_model, write_flax, write_torch
from bigs_cli.data.tokenizer import RESERVED, load_tokenizer, save_tokenizer
from tests.checkpoints.tiny import config, parameters
from tests.fuzz.targets.target import Seeds, Target, file_with

WORDS = ("the", "river", "stone", "a", "bridge", "old", ".", "sea")


def _vocabulary(path: Path) -> None:
    tokenizer = load_tokenizer(path)
    ids = tokenizer.encode("The old river runs to the sea. xyz é", "Bread.").ids
    tokenizer.decode(ids)
    save_tokenizer(tokenizer, path.parent / "saved")


def _tokenizer_json(folder: Path) -> tuple[Path, Seeds]:
    (folder / "vocab.txt").write_text("\n".join([*RESERVED[:1], *RESERVED[-4:], *WORDS]) + "\n")
    return folder / "tokenizer.json", [load_tokenizer(folder / "vocab.txt").to_str().encode()]


def _tokenizer_config(folder: Path) -> tuple[Path, Seeds]:
    (folder / "vocab.txt").write_text("\n".join([*RESERVED[:1], *RESERVED[-4:], *WORDS]) + "\n")
    save_tokenizer(load_tokenizer(folder / "vocab.txt"), folder)
    (folder / "tokenizer.json").unlink()
    return folder / "tokenizer_config.json", [(folder / "tokenizer_config.json").read_bytes()]


def _weights(name: str) -> Callable[[Path], tuple[Path, Seeds]]:
    def prepare(folder: Path) -> tuple[Path, Seeds]:
        model = config(head="sequence-classification")
        (write_flax if name == "flax_model.msgpack" else write_torch)(folder, model, parameters(model))
        seed = (folder / name).read_bytes()
        for other in ("flax_model.msgpack", "model.safetensors", "pytorch_model.bin"):
            (folder / other).unlink(missing_ok=True)
        return folder / name, [seed]

    return prepare


def _model(path: Path) -> None:
    read_model(path.parent, path.name)


def _pickle(folder: Path) -> tuple[Path, Seeds]:
    path, _ = _weights("pytorch_model.bin")(folder)
    torch_file.write(path, {"a.weight": np.ones((2, 3), np.float32), "b.bias": np.ones(3, np.float32)})
    with zipfile.ZipFile(path) as archive:
        return path, [archive.read("archive/data.pkl")]


def _zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (
            ("data.pkl", data),
            ("byteorder", b"little"),
            ("data/0", bytes(24)),
            ("data/1", bytes(12)),
        ):
            archive.writestr(f"archive/{name}", content)
    return file.getvalue()


_PICKLE = (
    b"cos\nsystem\n",
    b"ctorch\nFloatStorage\n",
    b"(",
    b"t",
    b"R",
    b"Q",
    b"\x81",
    b"i__main__\nX\n",
    b"\x80\x05",
    b"0",
    b"2",
)


def _header(folder: Path) -> tuple[Path, Seeds]:
    path = folder / "model.safetensors"
    safetensors_file.write(path, {"a.weight": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32)})
    seed = path.read_bytes()
    (length,) = struct.unpack("<Q", seed[:8])
    return path, [seed[8 : 8 + length]]


def _with_header(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data + bytes(32)


def _index(folder: Path) -> tuple[Path, Seeds]:
    _, (seed,) = _weights("model.safetensors")(folder)
    (folder / "model-00001-of-00001.safetensors").write_bytes(seed)
    names = safetensors_file.read(folder / "model-00001-of-00001.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    return folder / "model.safetensors.index.json", [json.dumps(index).encode()]


def _config(folder: Path) -> tuple[Path, Seeds]:
    values = [config_values(config(head=head)) for head in ("masked-lm", "token-classification")]
    return folder / "config.json", [json.dumps(one).encode() for one in values]


def _config_of_weights(folder: Path) -> tuple[Path, Seeds]:
    write_flax(folder, config(), parameters(config()))
    return folder / "config.json", [(folder / "config.json").read_bytes()]


TARGETS = (
    Target("vocab.txt", file_with("vocab.txt", "\n".join([*RESERVED, *WORDS]).encode()), _vocabulary, (b"##a\n",)),
    Target("tokenizer.json", _tokenizer_json, _vocabulary),
    Target("tokenizer_config.json", _tokenizer_config, lambda path: _vocabulary(path.with_name("vocab.txt"))),
    Target("config.json", _config, read_config),
    Target("config.json beside weights", _config_of_weights, lambda path: read_model(path.parent)),
    Target("flax_model.msgpack", _weights("flax_model.msgpack"), flax_file.read),
    Target("pytorch_model.bin", _weights("pytorch_model.bin"), torch_file.read),
    Target("pickle in pytorch_model.bin", _pickle, torch_file.read, _PICKLE, _zipped),
    Target("model.safetensors", _weights("model.safetensors"), _model),
    Target("header of model.safetensors", _header, safetensors_file.read, (), _with_header),
    Target("index of shards", _index, _model),
)
