"""The shipped recipes and their variants."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.recipe import load_recipe, recipe_comment, recipe_names, recipe_text
from tests.tiny import bigs


def test_a_variant_is_shown_completely() -> None:
    text = bigs("recipes", "show", "mrpc-128-freeze").fine().out
    assert text.startswith("# MRPC: whether two sentences mean the same thing. Length 128, SSM parameters frozen.\n#\n")
    assert "# Published, with the torch port: dev F1 87.29, accuracy 81.86" in text
    assert text.endswith(
        "extends: _glue\ntask: mrpc\nfrom: JunxiongWang/BiGS_128\nsequence_length: 128\nfreeze_ssm: true\n"
    )


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_text_loads_as_the_same_recipe(name: str, tmp_path: Path) -> None:
    text = recipe_text(name)
    assert "variants" not in text
    assert f"--recipe {name} " in recipe_comment(name) or name in ("custom", "word-order")
    bigs("recipes", "copy", name, tmp_path / "mine.yaml").fine()
    assert (tmp_path / "mine.yaml").read_text() == text
    assert load_recipe(str(tmp_path / "mine.yaml")) == load_recipe(name)


def test_variants_differ_from_their_recipe() -> None:
    names = [name for name in recipe_names() if re.search("-(128|freeze|small)$", name)]
    assert len(names) > 30
    for name in names:
        assert load_recipe(name) != load_recipe(re.sub("(-128)?(-freeze)?(-small)?$", "", name))


def test_bases_can_be_extended_and_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: _glue\ntask: mrpc\nfrom: mnli\n")
    assert load_recipe(str(tmp_path / "mine.yaml")) == load_recipe("mrpc")
    assert not [name for name in recipe_names() if name.startswith("_")]
    with pytest.raises(RequestError, match="Did you mean 'mrpc-128-freeze'"):
        load_recipe("mrpc-128-frozen")
    with pytest.raises(RequestError, match="There is no recipe 'glue-128'"):
        load_recipe("glue-128")
