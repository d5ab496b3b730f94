from __future__ import annotations

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from bigs_cli.checkpoints import flax_file, safetensors_file, torch_file
from bigs_cli.checkpoints.config_json import write_config
from bigs_cli.checkpoints.folder import atomic_directory, read_model, write_flax, write_torch
from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.models.published import to_torch
from tests.checkpoints.tiny import HEADS, config, parameters, same


@pytest.mark.parametrize("head", HEADS)
def test_every_head_in_every_format(head: str, tmp_path: Path) -> None:
    of = config(head=head, num_labels=3)
    flat = parameters(of)
    write_flax(tmp_path, of, flat)
    write_torch(tmp_path, of, flat)
    for name in ("flax_model.msgpack", "model.safetensors", "pytorch_model.bin"):
        model = read_model(tmp_path)
        assert model.source_file == tmp_path / name
        assert model.config == of
        assert same(model.flat, flat)
        assert (model.ignored, model.absent, model.tokenizer_path) == ((), (), None)
        (tmp_path / name).unlink()
    with pytest.raises(RequestError, match=r"has no weights\. One of these is required: flax_model\.msgpack"):
        read_model(tmp_path)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_dtypes_are_converted_to_float32(dtype: type, tmp_path: Path) -> None:
    of = config()
    flat = {path: array.astype(dtype) for path, array in parameters(of).items()}
    for write in (write_flax, write_torch):
        write(tmp_path, of, flat)
        read = read_model(tmp_path).flat
        assert {array.dtype for array in read.values()} == {np.dtype(np.float32)}
        assert same(read, {path: array.astype(np.float32) for path, array in flat.items()})
        (tmp_path / "flax_model.msgpack").unlink(missing_ok=True)


def test_integer_weights_are_rejected(tmp_path: Path) -> None:
    of = config()
    write_config(tmp_path / "config.json", of)
    state = to_torch(parameters(of), of) | {"cls.predictions.decoder.bias": np.ones(11, np.int32)}
    safetensors_file.write(tmp_path / "model.safetensors", state)
    with pytest.raises(RequestError, match="'cls/predictions/bias' has the data type int32"):
        read_model(tmp_path)


def test_the_unused_pooler_of_the_port_is_ignored_and_reported(tmp_path: Path) -> None:
    of = config()
    write_config(tmp_path / "config.json", of)
    pooler = {"bigs.pooler.dense.weight": np.ones((4, 4), np.float32)}
    torch_file.write(tmp_path / "pytorch_model.bin", to_torch(parameters(of), of) | pooler)
    model = read_model(tmp_path)
    assert model.ignored == ("bigs.pooler.dense.weight",)
    assert same(model.flat, parameters(of))


def test_a_bare_encoder_without_a_pooler(tmp_path: Path) -> None:
    of = config(head="encoder")
    flat = {path: array for path, array in parameters(of).items() if not path.startswith("pooler")}
    write_flax(tmp_path, of, flat)
    model = read_model(tmp_path)
    assert same(model.flat, flat)
    assert model.absent == ("pooler/dense/bias", "pooler/dense/kernel")


def test_the_head_of_a_config_without_architecture_is_guessed(tmp_path: Path) -> None:
    for head in ("encoder", "question-answering", "sequence-classification"):
        of = config(head=head)
        write_flax(tmp_path, of, parameters(of))
        values = json.loads((tmp_path / "config.json").read_text())
        del values["architectures"]
        (tmp_path / "config.json").write_text(json.dumps(values))
        if head == "sequence-classification":
            with pytest.raises(RequestError, match="names no architecture, and the weights fit several"):
                read_model(tmp_path)
        else:
            assert read_model(tmp_path).config == of


def test_mismatched_tensors_are_listed_by_their_names_in_the_file(tmp_path: Path) -> None:
    of = config()
    state = to_torch(parameters(of), of)
    del state["bigs.encoder.layer.1.bs4.D"]
    state["bigs.encoder.layer.0.dv.weight"] = np.zeros((7, 4), np.float32)
    state["classifier.weight"] = np.zeros((2, 4), np.float32)
    write_config(tmp_path / "config.json", of)
    safetensors_file.write(tmp_path / "model.safetensors", state)
    with pytest.raises(RequestError) as error:
        read_model(tmp_path)
    for part in (
        str(tmp_path / "model.safetensors"),
        "Missing (1): bigs.encoder.layer.1.bs4.D.",
        "Wrong shape (1): bigs.encoder.layer.0.dv.weight [7, 4] instead of [6, 4].",
        "Unknown (1): classifier.weight.",
    ):
        assert part in str(error.value)


def test_long_lists_are_truncated(tmp_path: Path) -> None:
    of = config(num_hidden_layers=3)
    write_flax(tmp_path, config(), parameters(config()))
    write_config(tmp_path / "config.json", of)
    with pytest.raises(RequestError, match=r"Missing \(26\): .*encoder/layer/2/.* and 20 more\."):
        read_model(tmp_path)


def test_the_tokenizer_beside_the_weights_is_found(tmp_path: Path) -> None:
    write_flax(tmp_path, config(), parameters(config()))
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    assert read_model(tmp_path).tokenizer_path == tmp_path / "vocab.txt"
    (tmp_path / "tokenizer.json").write_text("{}")
    assert read_model(tmp_path).tokenizer_path == tmp_path / "tokenizer.json"


def test_atomic_directory_is_complete_or_absent(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "deep" / "model") as draft:
        (draft / "a").write_text("a")
        assert not (tmp_path / "deep" / "model").exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]
    with pytest.raises(BigsError, match="a/b does not exist"), atomic_directory(tmp_path / "broken") as draft:
        (draft / "a" / "b").write_text("no folder a")
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


def test_atomic_directory_accepts_only_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="is in use"), atomic_directory(tmp_path):
        pass
    with atomic_directory(tmp_path / "empty") as draft:
        (draft / "a").write_text("a")
    assert (tmp_path / "empty" / "a").read_text() == "a"


def test_a_missing_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is not a folder"):
        read_model(tmp_path / "none")


def test_flax_and_torch_files_of_one_model_are_equal(shared: Path, tmp_path: Path) -> None:
    fixtures = shared / "fixtures"
    for head in ("mlm", "seqcls"):
        flax = read_model(fixtures / f"flax_hippo_{head}")
        torch = fixtures / f"torch_hippo_{head}"
        for name in ("model.safetensors", "pytorch_model.bin", "model_dedup.safetensors"):
            if not (torch / name).exists():
                continue
            folder = tmp_path / f"{head}-{name}"
            folder.mkdir()
            shutil.copy(torch / "config.json", folder)
            shutil.copy(torch / name, folder / name.replace("_dedup", ""))
            model = read_model(folder)
            assert model.config == flax.config
            assert same(model.flat, flax.flat)


def test_every_published_flax_file_round_trips(shared: Path, tmp_path: Path) -> None:
    for folder in sorted((shared / "fixtures").glob("flax_*")):
        model = read_model(folder)
        flax_file.write(tmp_path / "again", model.flat)
        assert same(flax_file.read(tmp_path / "again"), model.flat)
        assert model.ignored == model.absent == ()
