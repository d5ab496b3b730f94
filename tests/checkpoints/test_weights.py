"""All forms of weights in a folder: single files, shards, Flax paths or Torch names, and other dtypes."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bigs_cli.checkpoints import flax_file, safetensors_file, torch_file
from bigs_cli.checkpoints.arrays import Flat
from bigs_cli.checkpoints.config_json import write_config
from bigs_cli.checkpoints.folder import read_model, write_flax, write_torch
from bigs_cli.checkpoints.weights import WEIGHTS, choose, weights_in
from bigs_cli.core.errors import RequestError
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.published import to_torch
from tests.checkpoints.test_torch_file import Writes, archive
from tests.checkpoints.tiny import HEADS, config, parameters, same
from tests.tiny import bigs

WRITERS = {
    "flax_model.msgpack": flax_file.write,
    "model.safetensors": safetensors_file.write,
    "pytorch_model.bin": torch_file.write,
}
SHARDED = [name for name, form in WEIGHTS.items() if form.shards]


def write_sharded(folder: Path, of: BiGSConfig, state: Flat, name: str, count: int = 3) -> dict[str, str]:
    """Write config.json and `state` as `count` shards of the file `name` with their index; return tensor → shard."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder / "config.json", of)
    stem, suffix = name.rsplit(".", 1)
    places = {}
    for number in range(count):
        shard = f"{stem}-{number + 1:05}-of-{count:05}.{suffix}"
        part = {tensor: state[tensor] for tensor in sorted(state)[number::count]}
        WRITERS[name](folder / shard, part)
        places |= dict.fromkeys(part, shard)
    write_index(folder, name, places)
    return places


def write_index(folder: Path, name: str, places: dict[str, Any]) -> None:
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


def state_of(name: str, of: BiGSConfig, flat: Flat) -> Flat:
    return to_torch(flat, of) if WEIGHTS[name].torch_names else flat


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", SHARDED)
def test_shards_of_every_format_and_head_are_read(name: str, head: str, tmp_path: Path) -> None:
    of = config(head=head)
    flat = parameters(of)
    write_sharded(tmp_path, of, state_of(name, of, flat), name)
    model = read_model(tmp_path)
    assert (model.config, model.source_file.name, model.ignored) == (of, f"{name}.index.json", ())
    assert same(model.flat, flat)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", SHARDED)
def test_shards_in_other_dtypes_are_converted_to_float32(name: str, dtype: type, tmp_path: Path) -> None:
    of = config()
    flat = {path: array.astype(dtype) for path, array in parameters(of).items()}
    write_sharded(tmp_path, of, state_of(name, of, flat), name)
    read = read_model(tmp_path).flat
    assert {array.dtype for array in read.values()} == {np.dtype(np.float32)}
    assert same(read, {path: array.astype(np.float32) for path, array in flat.items()})


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("head", HEADS)
def test_flax_paths_and_torch_names_are_distinguished(head: str, name: str, tmp_path: Path) -> None:
    of = config(head=head)
    flat = parameters(of)
    write_config(tmp_path / "config.json", of)
    WRITERS[name](tmp_path / name, {path: array.astype(np.float16) for path, array in flat.items()})
    assert same(read_model(tmp_path).flat, {path: a.astype(np.float16).astype(np.float32) for path, a in flat.items()})
    (tmp_path / name).unlink()
    write_sharded(tmp_path, of, flat, name)
    assert same(read_model(tmp_path).flat, flat)


def test_mismatched_tensors_are_listed_by_their_names_in_the_file(tmp_path: Path) -> None:
    of = config()
    flat = parameters(of)
    del flat["s4_bert/encoder/layer/1/bs4/D"]
    flat["s4_bert/encoder/layer/0/dv/kernel"] = np.zeros((4, 7), np.float32)
    extra = {f"more.{number}": np.zeros(1, np.float32) for number in range(9)}
    write_sharded(tmp_path, of, flat | extra, "model.safetensors")
    with pytest.raises(RequestError) as error:
        read_model(tmp_path)
    for part in (
        str(tmp_path / "model.safetensors.index.json"),
        "Missing (1): s4_bert/encoder/layer/1/bs4/D.",
        "Wrong shape (1): s4_bert/encoder/layer/0/dv/kernel [4, 7] instead of [4, 6].",
        "Unknown (9): more.0, more.1, more.2, more.3, more.4, more.5 and 3 more.",
    ):
        assert part in str(error.value)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    places = write_sharded(tmp_path, config(), parameters(config()), "flax_model.msgpack")
    first, second, _ = sorted(set(places.values()))
    (tmp_path / second).unlink()
    with pytest.raises(
        RequestError, match=rf"lacks 1 of the 3 shards listed in flax_model.msgpack.index.json: {second}"
    ):
        read_model(tmp_path)
    (tmp_path / second).mkdir()
    with pytest.raises(RequestError, match="lacks 1 of the 3 shards"):
        read_model(tmp_path)
    assert first not in "".join(weights_in(tmp_path))


OUTSIDE = ("../secret", "/etc/hostname", "sub/shard", "..", ".", "", ".hidden", "a\\b", "a..b", "a*", "a\n", "C:x")


@pytest.mark.parametrize("shard", OUTSIDE)
def test_an_index_may_only_name_files_in_its_folder(shard: str, tmp_path: Path) -> None:
    of = config()
    state = to_torch(parameters(of), of)
    safetensors_file.write(tmp_path / "secret", state)
    folder = tmp_path / "model"
    places = write_sharded(folder, of, state, "model.safetensors")
    write_index(folder, "model.safetensors", places | {sorted(places)[0]: shard})
    with pytest.raises(RequestError, match="shards must be in the same folder"):
        read_model(folder)


INDICES = {
    "no JSON": "{",
    "nothing": "",
    "a list": "[]",
    "no map": "{}",
    "an empty map": '{"weight_map": {}}',
    "a list for a map": '{"weight_map": ["a"]}',
    "numbers for files": '{"weight_map": {"a": 1}}',
    "too deep": '{"weight_map":' * 100_000,
    "no text": "\xff\xfe\xff",
}


@pytest.mark.parametrize("content", INDICES.values(), ids=INDICES.keys())
def test_a_malformed_index_is_rejected(content: str, tmp_path: Path) -> None:
    write_config(tmp_path / "config.json", config())
    (tmp_path / "model.safetensors.index.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(RequestError, match=r"is not an index of shards|is not JSON|is not a JSON object"):
        read_model(tmp_path)


def test_a_tensor_in_two_shards_is_rejected(tmp_path: Path) -> None:
    of = config()
    places = write_sharded(tmp_path, of, parameters(of), "flax_model.msgpack", 2)
    (path, shard), *_ = ((path, shard) for path, shard in places.items() if "00002" in shard)
    flax_file.write(tmp_path / shard.replace("00002-of", "00001-of"), parameters(of))
    with pytest.raises(RequestError, match="has tensors that are also in another shard: "):
        read_model(tmp_path)
    assert path in parameters(of)


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_a_malicious_shard_is_rejected_and_not_executed(protocol: int, tmp_path: Path) -> None:
    of = config()
    folder, victim = tmp_path / "model", tmp_path / "victim"
    places = write_sharded(folder, of, to_torch(parameters(of), of), "pytorch_model.bin")
    shard = folder / sorted(set(places.values()))[1]
    archive(shard, pickle.dumps({"w": Writes(victim)}, protocol))
    with pytest.raises(RequestError, match="nothing in it was executed") as error:
        read_model(folder)
    assert str(shard) in str(error.value)
    assert not victim.exists()


def test_order_of_preference_of_weights_files(tmp_path: Path) -> None:
    of = config()
    for name in reversed(SHARDED):
        write_sharded(tmp_path, of, state_of(name, of, parameters(of)), name)
    write_flax(tmp_path, of, parameters(of))
    write_torch(tmp_path, of, parameters(of))
    order = [name + suffix for name in SHARDED for suffix in ("", ".index.json")]
    assert weights_in(tmp_path) == order
    for name in order:
        assert choose(tmp_path).name == name
        assert choose(tmp_path, WEIGHTS[name.removesuffix(".index.json")].name).name == name
        (tmp_path / name).unlink()


def exported(arguments: Iterable[object], folder: Path) -> Flat:
    bigs("export", *arguments, "--output", folder).fine()
    return flax_file.read(folder / "flax_model.msgpack")


def test_export_reads_the_requested_format(tmp_path: Path) -> None:
    """The same folder holds three models, one in each format."""
    of, folder = config(), tmp_path / "model"
    folder.mkdir()
    seeds = {"flax": 1, "safetensors": 2, "torch": 3}
    write_torch(folder, of, parameters(of, 2))
    torch_file.write(folder / "pytorch_model.bin", to_torch(parameters(of, 3), of))
    write_flax(folder, of, parameters(of, 1))
    for form, seed in seeds.items():
        read = exported(("--model", folder, "--from-format", form), tmp_path / form)
        assert same(read, parameters(of, seed))
    assert same(exported(("--model", folder), tmp_path / "default"), parameters(of, 1))


def flax_only(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").unlink()


def shards_only(folder: Path) -> None:
    for name in SHARDED:
        (folder / name).unlink()
    write_sharded(folder, config(), to_torch(parameters(config()), config()), "pytorch_model.bin")


@pytest.mark.parametrize(
    ("change", "form", "messages"),
    [
        (
            flax_only,
            "torch",
            ("has no pytorch_model.bin, nor shards of it", "but it has flax_model.msgpack.", "format flax,"),
        ),
        (
            shards_only,
            "flax",
            ("has no flax_model.msgpack", "but it has pytorch_model.bin.index.json.", "-format torch,"),
        ),
        (
            flax_only,
            "safetensor",
            ("no weights format 'safetensor'", "mean 'safetensors'?", "flax, safetensors, torch"),
        ),
    ],
)
def test_a_missing_format_is_reported(
    change: Callable[[Path], None], form: str, messages: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write_flax(folder, config(), parameters(config()))
    write_torch(folder, config(), parameters(config()))
    change(folder)
    done = bigs("export", "--model", folder, "--from-format", form, "--output", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert [part for part in messages if part not in done.err] == [], done.err
    assert not (tmp_path / "out").exists()


def test_from_format_is_rejected_for_a_run(pretrained: Path, tmp_path: Path) -> None:
    done = bigs("export", "--model", pretrained, "--from-format", "flax", "--output", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert "is a run, whose checkpoints have a single format. Leave out --from-format flax." in done.err


def test_sharded_published_models_are_read(shared: Path, tmp_path: Path) -> None:
    for name, source in (("flax_model.msgpack", "flax_hippo_mlm"), ("pytorch_model.bin", "torch_hippo_mlm")):
        whole = read_model(shared / "fixtures" / source, name)
        state = WEIGHTS[name].read(shared / "fixtures" / source / name)
        write_sharded(tmp_path / source, whole.config, state, name, 4)
        assert same(read_model(tmp_path / source).flat, whole.flat)
