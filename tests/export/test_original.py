"""Features that the original Flax code or its PyTorch port ignores are reported on stderr and in the card."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from bigs_cli.export.formats import FORMATS, export
from bigs_cli.export.settings import Settings
from bigs_cli.models.config import BiGSConfig
from tests.export.test_formats import FILES, model
from tests.tiny import bigs

GELU = "The PyTorch port computes the exact GELU in its layers"


@pytest.mark.parametrize(
    ("form", "changes", "message"),
    [
        ("flax", {"mask_padding": True}, "mask_padding is on, and the original Flax code does not read it: padding"),
        (
            "flax",
            {"mask_padding": True},
            "pads every text to 5 tokens, the only length it takes. Instead, use --format",
        ),
        ("torch", {"mask_padding": True}, "mask_padding is on, and the PyTorch port does not read it: padding changes"),
        ("torch", {"mask_padding": True}, "Give it one text at a time, without padding; or use --format transformers"),
        (
            "torch",
            {"pre_norm": False},
            "pre_norm is off, but the PyTorch port normalizes before every layer regardless",
        ),
        ("torch", {"head": "pretraining"}, "The PyTorch port has no pretraining model, so it cannot load this folder."),
        ("torch", {"head": "next-sentence"}, "The PyTorch port has no next-sentence model"),
        ("torch", {}, GELU),
        ("flax", {"final_norm": True}, "The original code has only gated blocks with SSMs, no final LayerNorm"),
        ("torch", {"pooler_type": "pair"}, "and no pooler for pairs, so it cannot run this model"),
        ("torch", {"mixer": "attention", "num_attention_heads": 2}, "so it cannot run this model."),
        (
            "flax",
            {"head": "question-answering", "num_labels": 3},
            "creates 3 outputs (num_labels) for question answering",
        ),
        (
            "flax",
            {"head": "multiple-choice", "classifier_dropout": 0.3},
            "does not read classifier_dropout for multiple",
        ),
        (
            "torch",
            {"head": "token-classification", "classifier_dropout": 0.3},
            "its dropout is 0.1 (hidden_dropout_pr",
        ),
    ],
)
def test_unsupported_fields_cause_warnings(form: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    warnings = export(model(**changes), form, tmp_path / "out").warnings
    assert any(message in warning for warning in warnings), warnings
    card = (tmp_path / "out" / "README.md").read_text()
    assert all(f"**Warning**: {warning}" in card for warning in warnings)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("form", "remedy"), [("flax", "model.to_fp32(model.params)"), ("torch", "model.float()")])
def test_16_bit_exports_say_how_to_convert_them(form: str, remedy: str, dtype: Any, tmp_path: Path) -> None:
    warnings = export(model(), form, tmp_path / "out", Settings(dtype=dtype)).warnings
    assert any(remedy in warning for warning in warnings)


@pytest.mark.parametrize("form", FILES)
def test_supported_fields_cause_no_warnings(form: str, tmp_path: Path) -> None:
    ours = form not in ("flax", "torch")
    changes: dict[str, Any] = {"mask_padding": True, "pre_norm": False} if ours else {}
    made = export(model(tie_word_embeddings=False, pooler_type="mean", **changes), form, tmp_path / "out")
    assert [warning for warning in made.warnings if GELU not in warning] == []


@pytest.mark.parametrize("form", ["flax", "torch"])
def test_every_config_field_is_supported_or_causes_a_warning(form: str, tmp_path: Path) -> None:
    tool = FORMATS[form].tool
    assert tool is not None
    assert BiGSConfig.model_fields.keys() <= tool.reads | {limit.field for limit in tool.limits}
    ignorant = dataclasses.replace(tool, reads=tool.reads - {"layer_norm_eps"})
    made, plain = model(layer_norm_eps=1e-6), model()
    settings = Settings((5,))
    assert ignorant.warnings(made, settings)[-1].startswith(f"layer_norm_eps is 1e-06, which {tool.name} does not read")
    assert ignorant.warnings(plain, settings) == tool.warnings(plain, settings)


def test_a_run_exported_as_flax_warns_on_stderr(pretrained: Path, tmp_path: Path) -> None:
    done = bigs("export", "--model", pretrained, "--output", tmp_path / "out").fine()
    assert re.search(r"Warning: mask_padding is on, and the original Flax code does not read it", done.err)
    assert "does not read it: padding changes its outputs" in (tmp_path / "out" / "README.md").read_text()
    done = bigs("export", "--model", pretrained, "--format", "safetensors", "--output", tmp_path / "other").fine()
    assert "Warning" not in done.err
