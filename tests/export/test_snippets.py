"""The snippet on every model card runs as printed, in the parent of the exported folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.export.formats import FORMATS, export
from bigs_cli.export.forward import OUTPUTS
from tests.checkpoints.tiny import config, parameters
from tests.export.remote_code import own_module_cache

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "text", ".", "she", "opened", "the", "door", "and", "went"]
PACKAGES = {"transformers": ("torch", "transformers"), "onnx": ("jax2onnx", "onnx", "onnxruntime")}


def printed(folder: Path) -> str:
    return (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "sentence-transformers"])
@pytest.mark.parametrize(
    ("head", "mask_padding", "with_tokenizer"),
    [
        ("masked-lm", False, True),
        ("question-answering", True, True),
        ("multiple-choice", False, True),
        ("multiple-choice", False, False),
        ("sequence-classification", True, False),
    ],
)
def test_the_snippet_runs_as_printed(
    form: str, head: str, mask_padding: bool, with_tokenizer: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = [package for package in PACKAGES.get(form, ()) if find_spec(package) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} is not installed")
    if form == "transformers":
        own_module_cache(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("vocab.txt").write_text("\n".join(WORDS))
    of = config(head=head, vocab_size=len(WORDS), max_position_embeddings=16, mask_padding=mask_padding)
    tokenizer = tmp_path / "vocab.txt" if with_tokenizer else None
    folder = Path('it\'s "new"')
    export(OpenModel("tiny", of, parameters(of), tokenizer, "a tiny model"), form, folder)
    names: dict[str, Any] = {}
    exec(printed(folder), names)
    if form in ("onnx", "stablehlo"):
        outputs = [np.asarray(names[name]) for name in OUTPUTS[head]]
    elif form == "transformers":
        outputs = [names["outputs"][name].detach().numpy() for name in OUTPUTS[head]]
    else:
        assert "model" in names or "arrays" in names
        return
    assert all(output.shape[0] == 1 and np.isfinite(output).all() for output in outputs)
