"""Every export format with every head: exports equal the model, and wrong exports are removed."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bigs_cli.checkpoints.arrays import Flat
from bigs_cli.checkpoints.folder import read_model
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.weights import WEIGHTS
from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.metric_names import key_in_words, log_key
from bigs_cli.data.tokenizer import fingerprint, load_tokenizer
from bigs_cli.export import weights
from bigs_cli.export.formats import FORMATS, export
from bigs_cli.export.settings import Settings
from bigs_cli.export.weights import write_safetensors
from bigs_cli.models.published import completed
from tests.checkpoints.tiny import HEADS, config, parameters, same
from tests.tiny import bigs, finetune, most_optimizations

ALWAYS = {"config.json", "README.md"}
FILES = {
    "flax": {*ALWAYS, "flax_model.msgpack"},
    "torch": {*ALWAYS, "model.safetensors", "pytorch_model.bin"},
    "safetensors": {*ALWAYS, "model.safetensors"},
    "transformers": {*ALWAYS, "model.safetensors", "configuration_bigs.py", "layers_bigs.py", "modeling_bigs.py"},
    "stablehlo": {*ALWAYS, "model.safetensors", "model-5.stablehlo"},
}
TOKENIZER = {"tokenizer.json", "vocab.txt", "tokenizer_config.json"}
NEEDS_MORE = {"onnx", "sentence-transformers"}  # tested in files of their own


def model(tokenizer: Path | None = None, **changes: Any) -> OpenModel:
    of = config(**changes)
    return OpenModel("tiny", of, parameters(of), tokenizer, "a tiny model")


def test_every_format_is_tested() -> None:
    assert FILES.keys() | NEEDS_MORE == FORMATS.keys()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("form", FILES)
def test_every_weights_file_of_a_format_is_read_back(form: str, head: str, tmp_path: Path) -> None:
    original = model(head=head, num_labels=3)
    differences = export(original, form, tmp_path / "out").differences
    assert set(differences) <= FILES[form]
    assert all(difference < 5e-6 for difference in differences.values())
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES[form]
    for name in (name for name in WEIGHTS if name in FILES[form]):
        again = read_model(tmp_path / "out")
        assert (again.config, again.source_file.name, again.ignored) == (original.config, name, ())
        assert same(again.flat, original.flat)
        again.source_file.unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", FILES)
def test_untied_models_and_models_that_mask_padding(form: str, tmp_path: Path) -> None:
    original = model(tie_word_embeddings=False, mask_padding=True, pre_norm=False)
    export(original, form, tmp_path / "out")
    again = read_model(tmp_path / "out")
    assert again.config == original.config
    assert same(again.flat, original.flat)


@pytest.mark.parametrize("form", FILES)
def test_a_bare_encoder_without_a_pooler(form: str, tmp_path: Path) -> None:
    of = config(head="encoder")
    flat = {path: array for path, array in parameters(of).items() if not path.startswith("pooler/")}
    export(OpenModel("tiny", of, flat, None, "a tiny encoder"), form, tmp_path / "out")
    whole = form in ("transformers", "stablehlo")  # these formats add a pooler of zeros
    assert same(read_model(tmp_path / "out").flat, completed(flat, of) if whole else flat)


@pytest.mark.parametrize("form", FILES)
def test_file_permissions_follow_the_umask(form: str, tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "##b"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    before = os.umask(0o027)
    try:
        export(model(tmp_path / "vocab.txt"), form, tmp_path / "out")
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "out").iterdir()} == dict.fromkeys(
        FILES[form] | TOKENIZER, "0o640"
    )


def test_a_16_bit_torch_export_says_how_to_load_it(tmp_path: Path) -> None:
    exported = export(model(), "torch", tmp_path / "out", Settings(dtype="bfloat16"))
    messages = [sentence for sentence in (*exported.warnings, *exported.notes) if "float()" in sentence]
    assert messages == [
        "The PyTorch port's FFT rejects 16-bit numbers on CPU. Convert the model after loading it: model.float()."
    ]
    assert (tmp_path / "out" / "README.md").read_text().count("float()") == 1
    whole = export(model(), "torch", tmp_path / "whole")
    assert not any("float()" in sentence for sentence in (*whole.warnings, *whole.notes))


def test_the_tokenizer_is_exported(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "##b"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    export(model(tmp_path / "vocab.txt"), "flax", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES["flax"] | TOKENIZER
    again = read_model(tmp_path / "out").tokenizer_path
    assert again is not None
    assert fingerprint(load_tokenizer(again)) == fingerprint(load_tokenizer(tmp_path / "vocab.txt"))


def half_precision(flat: Flat) -> Flat:
    return {path: array.astype(np.float16) for path, array in flat.items()}


def two_columns_exchanged(flat: Flat) -> Flat:
    return {path: array[:, ::-1] if path == "pooler/dense/kernel" else array for path, array in flat.items()}


def not_a_number(flat: Flat) -> Flat:
    return {path: array * np.float32("nan") if path.endswith("/do/bias") else array for path, array in flat.items()}


@pytest.mark.parametrize("damage", [half_precision, two_columns_exchanged, not_a_number])
def test_an_export_with_different_outputs_is_removed(
    damage: Callable[[Flat], Flat], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(folder: Path, original: OpenModel, settings: Settings) -> None:
        write_safetensors(folder, original.config, damage(original.flat))

    damaged = dataclasses.replace(weights.SAFETENSORS, write=write)
    monkeypatch.setitem(FORMATS, "safetensors", damaged)
    with pytest.raises(BigsError, match=r"model\.safetensors has different outputs when read back") as error:
        export(model(head="encoder"), "safetensors", tmp_path / "out")
    assert error.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"no format 'flex'\. Did you mean 'flax'\? Formats: flax, torch, safetensors, "
    ):
        export(model(), "flex", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RequestError, match=r"is in use: .* Choose another --output"):
        export(model(), "flax", tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("thesis.tex", "mine")]


@pytest.mark.parametrize(
    ("form", "settings", "sentence"),
    [
        ("flax", {"int8": True}, "--int8 is for the format onnx"),
        ("flax", {"lengths": (4,)}, "takes texts of any length"),
        ("stablehlo", {"lengths": (4, 6)}, "--length 6: this model takes 1 to 5 tokens"),
        ("stablehlo", {"dtype": "bfloat16"}, "leave out --dtype bfloat16"),
    ],
)
def test_settings_of_another_format_are_rejected(
    form: str, settings: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=sentence):
        export(model(), form, tmp_path / "out", Settings(**settings))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("form", [form for form in FILES if FORMATS[form].stores_dtype])
def test_16_bit_weights_halve_the_size_except_ssm_parameters(form: str, dtype: Any, tmp_path: Path) -> None:
    original = model(hidden_size=64, intermediate_size=128)
    for path, array in original.flat.items():
        original.flat[path] = array * np.float32(0.1) if array.shape[-1] >= 64 and array.ndim == 2 else array
    whole = export(original, form, tmp_path / "whole")
    half = export(original, form, tmp_path / "half", Settings(dtype=dtype))
    for name in whole.differences:
        assert whole.differences[name] < 5e-6 < half.differences[name] < 0.2
        if not name.endswith(".py"):
            sizes = [(tmp_path / folder / name).stat().st_size for folder in ("half", "whole")]
            assert 0.48 < sizes[0] / sizes[1] < 0.7
    again = read_model(tmp_path / "half").flat
    kernels = [path for path in again if "/fs4/" in path or "/bs4/" in path]
    assert kernels
    assert all(np.array_equal(again[path], original.flat[path]) for path in kernels)


def test_the_card_describes_the_run(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    with most_optimizations(disabled=True):
        bigs(*finetune("mrpc", pretrained, glue, tmp_path / "mrpc")).fine()
    done = bigs("export", "--model", tmp_path / "mrpc", "--output", tmp_path / "out", "--license", "cc-by-4.0").fine()
    assert done.out.strip() == str(tmp_path / "out")
    assert re.search(
        r"flax_model\.msgpack: read back; outputs differ by at most [0-9.e+-]+ of the largest output\.", done.err
    )
    card = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "cc-by-4.0"
    assert front["pipeline_tag"] == "text-classification"
    results = json.loads((tmp_path / "mrpc" / "results.json").read_text())
    for metric, value in results["metrics"].items():
        assert f"| {key_in_words(log_key('dev', metric))} | {100 * value:.2f}% |" in card
    assert results["data"]["train"] in card
    recipe = yaml.safe_load(card.split("```yaml")[1].split("```")[0])
    assert recipe["task"] == "mrpc"
    assert recipe["from"] == pretrained.name
    assert re.search(r"Trained with bigs \S+, .*jax \d", card)
    assert str(tmp_path.parent) not in card
    assert "Padding changes the outputs" not in card  # the recipe demo masks padding


def test_the_card_warns_about_unmasked_padding(tmp_path: Path) -> None:
    export(model(head="question-answering"), "transformers", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Padding changes the outputs" in card
    assert re.search(r"torch\.randint\(\d+, \(1, 5\)\)", card)  # its maximum length


def test_the_card_names_the_base_model_on_the_hub(tmp_path: Path) -> None:
    export(dataclasses.replace(model(), repo="ada/mine@v1"), "flax", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["base_model"] == "ada/mine"
    assert "Exported from `ada/mine@v1`" in card
