"""Reference checkpoints of the original through every format, each run by its tool, against the original outputs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli.checkpoints.resolve import find_model, open_model
from bigs_cli.export.check import largest_difference
from bigs_cli.export.formats import FORMATS, export
from bigs_cli.export.forward import OUTPUTS
from bigs_cli.export.settings import Inputs, Settings

NAMES = ["hippo_mlm", "lin_mlm", "hippo_seqcls", "hippo_seqreg", "hippo_pretraining", "lin_qa", "hippo_mc"]
PACKAGES = {"transformers": ("torch", "transformers"), "onnx": ("jax2onnx", "onnx", "onnxruntime")}
LARGEST_DIFFERENCE = 5e-5  # relative to the largest output, as in the check of every export


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "sentence-transformers"])
@pytest.mark.parametrize("name", NAMES)
def test_the_target_tool_reproduces_the_original_outputs(shared: Path, tmp_path: Path, name: str, form: str) -> None:
    absent = [package for package in PACKAGES.get(form, ()) if find_spec(package) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} is not installed")
    folder = shared / "fixtures" / f"flax_{name}"
    model = open_model(find_model(str(folder)))
    given = dict(np.load(shared / "fixtures" / "inputs.npz"))
    prefix = "mc_" if model.config.head == "multiple-choice" else ""
    inputs = Inputs(*(given[prefix + key] for key in ("input_ids", "attention_mask", "token_type_ids")))
    reference: dict[str, Any] = dict(np.load(folder / "reference.npz"))
    expected = [reference[output] for output in OUTPUTS[model.config.head]]
    length = inputs.ids.shape[-1]
    export(model, form, tmp_path / "out", Settings(lengths=(length,) if FORMATS[form].fixes_length else ()))
    ran = 0
    for _, run, _, _ in FORMATS[form].read_back(tmp_path / "out", model, Settings((length,))):
        assert largest_difference(expected, run(inputs)) < LARGEST_DIFFERENCE
        ran += 1
    assert ran
