"""The ONNX export, run by onnxruntime. Skipped where its packages are not installed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli.checkpoint.resolve import OpenModel, find_model, open_model
from bigs_cli.export import onnx_file
from bigs_cli.export.check import model_run
from bigs_cli.export.formats import export
from bigs_cli.export.forward import OUTPUTS
from bigs_cli.export.settings import inputs_of
from tests.checkpoint.tiny import HEADS, config, parameters
from tests.tiny import bigs, finetune

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'bigs[onnx]'")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'bigs[onnx]'")
pytest.importorskip("jax2onnx", reason="jax2onnx is not installed: pip install 'bigs[onnx]'")


def model(**changes: Any) -> OpenModel:
    of = config(**changes)
    return OpenModel("tiny", of, parameters(of), None, "a tiny model")


@pytest.mark.parametrize("head", HEADS)
def test_every_head_with_any_number_of_rows(head: str, tmp_path: Path) -> None:
    made = model(head=head, num_labels=1 if head == "sequence-classification" else 3)
    assert export(made, "onnx", tmp_path / "out").differences.keys() == {"model.onnx"}
    session = ort.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    assert tuple(output.name for output in session.get_outputs()) == OUTPUTS[made.config.head]
    assert [(given.name, given.type) for given in session.get_inputs()] == [
        (name, "tensor(int64)") for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    for rows in (1, 4):
        inputs = inputs_of(made, 5, rows=rows)
        outputs = onnx_file.session_run(tmp_path / "out" / "model.onnx")(inputs)
        for ours, theirs in zip(model_run(made.config, made.flat)(inputs), outputs, strict=True):
            assert theirs.shape == ours.shape
            np.testing.assert_allclose(theirs, ours, atol=5e-6 * float(np.abs(ours).max()))


def test_it_is_matrix_products_without_loops_and_says_what_it_was_made_from(tmp_path: Path) -> None:
    made = model(tie_word_embeddings=False, pre_norm=False, mask_padding=True)
    result = export(made, "onnx", tmp_path / "out", lengths=(3, 5))
    assert result.differences.keys() == {"model-3.onnx", "model-5.onnx"}
    graph = onnx.load(tmp_path / "out" / "model-3.onnx").graph
    assert not {node.op_type for node in graph.node} & {"Loop", "Scan", "If", "Conv", "DFT"}
    weights = {tensor.name for tensor in graph.initializer} & made.flat.keys()
    assert weights == {path for path in made.flat if "/fs4/" not in path and "/bs4/" not in path}


def test_rows_longer_than_a_matrix(tmp_path: Path) -> None:
    made = model(hidden_size=16, max_position_embeddings=1300)
    flat = {path: -np.abs(array) if path.endswith("A_re") else array for path, array in made.flat.items()}
    result = export(dataclasses.replace(made, flat=flat), "onnx", tmp_path / "out")
    assert result.differences.keys() == {"model.onnx"}  # all of 5e-5, which export itself demands


def test_weights_beyond_one_file_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "LARGEST_SINGLE_FILE", 1000)
    made = model(hidden_size=32)
    result = export(made, "onnx", tmp_path / "out", lengths=(3, 5))
    assert all(difference < 5e-6 for difference in result.differences.values())
    assert (tmp_path / "out" / "model-3.onnx_data").stat().st_size > 10_000


def test_eight_bits_say_their_size_and_accuracy(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    bigs(*finetune("mrpc", pretrained, glue, tmp_path / "mrpc")).fine()
    opened = open_model(find_model(str(tmp_path / "mrpc")))
    result = export(opened, "onnx", tmp_path / "out", int8=True)
    assert result.differences["model.onnx"] < 5e-6 < result.differences["model-int8.onnx"]
    size, accuracy = result.notes
    files = [tmp_path / "out" / name for name in ("model-int8.onnx", "model.onnx")]
    small, large = (path.stat().st_size for path in files)
    assert small < 0.9 * large
    assert size == f"model-int8.onnx: {small / 1e6:,.1f} MB instead of {large / 1e6:,.1f}."
    measured = 100 * json.loads((tmp_path / "mrpc" / "results.json").read_text())["metrics"]["accuracy"]
    assert f"instead of {measured:.1f}% on" in accuracy
    notes = export(model(), "onnx", tmp_path / "bare", int8=True).notes
    assert "accuracy not measured" in notes[1]
