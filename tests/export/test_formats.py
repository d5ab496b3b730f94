"""Every export format with every head: what is written is the model, and what is not the model is not left there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli.checkpoint.arrays import Flat
from bigs_cli.checkpoint.folder import WEIGHTS, read_model, write_flax
from bigs_cli.checkpoint.resolve import OpenModel
from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.data.tokenizer import fingerprint, load_tokenizer
from bigs_cli.export.formats import FORMATS, export
from bigs_cli.recipe.config import BiGSConfig
from tests.checkpoint.tiny import HEADS, config, parameters, same

FILES = {
    "flax": {"config.json", "flax_model.msgpack"},
    "torch": {"config.json", "model.safetensors", "pytorch_model.bin"},
}


def model(tokenizer: Path | None = None, **changes: Any) -> OpenModel:
    of = config(**changes)
    return OpenModel("tiny", of, parameters(of), tokenizer, "a tiny model")


def test_every_format_is_tested() -> None:
    assert FILES.keys() == FORMATS.keys()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("form", FORMATS)
def test_every_weights_file_of_a_format_is_the_model(form: str, head: str, tmp_path: Path) -> None:
    made = model(head=head, num_labels=3)
    assert export(made, form, tmp_path / "out") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES[form]
    for name in (name for name in WEIGHTS if name in FILES[form]):
        again = read_model(tmp_path / "out")
        assert (again.config, again.source_file.name, again.ignored) == (made.config, name, ())
        assert same(again.flat, made.flat)
        again.source_file.unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", FORMATS)
def test_an_untied_model_and_one_that_masks_padding(form: str, tmp_path: Path) -> None:
    made = model(tie_word_embeddings=False, mask_padding=True, pre_norm=False)
    assert export(made, form, tmp_path / "out") == 0
    again = read_model(tmp_path / "out")
    assert again.config == made.config
    assert same(again.flat, made.flat)


@pytest.mark.parametrize("form", FORMATS)
def test_a_bare_encoder_without_a_pooler(form: str, tmp_path: Path) -> None:
    of = config(head="encoder")
    flat = {path: array for path, array in parameters(of).items() if not path.startswith("pooler/")}
    assert export(OpenModel("tiny", of, flat, None, "a tiny encoder"), form, tmp_path / "out") == 0
    assert same(read_model(tmp_path / "out").flat, flat)


def test_the_tokenizer_goes_along(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "##b"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    export(model(tmp_path / "vocab.txt"), "flax", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*FILES["flax"], "tokenizer.json", "vocab.txt"}
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
def test_an_export_that_gives_other_outputs_is_not_left_there(
    damage: Callable[[Flat], Flat], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(folder: Path, of: BiGSConfig, flat: Flat) -> None:
        write_flax(folder, of, damage(flat))

    monkeypatch.setitem(FORMATS, "flax", write)
    with pytest.raises(BigsError, match="The flax export gives other outputs when read back") as error:
        export(model(head="encoder"), "flax", tmp_path / "out")
    assert error.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no format 'flex'\. Did you mean 'flax'\? Formats: flax, torch\."):
        export(model(), "flex", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RequestError, match=r"is in use: .* Choose another --output"):
        export(model(), "flax", tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("thesis.tex", "mine")]
