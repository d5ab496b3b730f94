"""The ONNX export, run by onnxruntime. Skipped if its packages are not installed."""

from __future__ import annotations

import dataclasses
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli.checkpoints.folder import read_model
from bigs_cli.checkpoints.onnx_file import SSM_METADATA
from bigs_cli.checkpoints.resolve import OpenModel, find_model, open_model
from bigs_cli.core.errors import RequestError
from bigs_cli.export import onnx_file
from bigs_cli.export.check import model_run
from bigs_cli.export.formats import export
from bigs_cli.export.forward import OUTPUTS
from bigs_cli.export.int8 import POOLER
from bigs_cli.export.settings import Inputs, Settings, inputs_of
from bigs_cli.models.functional import initialize
from bigs_cli.models.published import to_flat
from tests.checkpoints.tiny import ARCHITECTURES, HEADS, config, parameters, same
from tests.tiny import bigs, finetune

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'bigs[onnx]'")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'bigs[onnx]'")
pytest.importorskip("jax2onnx", reason="jax2onnx is not installed: pip install 'bigs[onnx]'")


def model(**changes: Any) -> OpenModel:
    of = config(**changes)
    return OpenModel("tiny", of, parameters(of), None, "a tiny model")


@pytest.mark.parametrize("head", HEADS)
def test_every_head_runs_with_any_number_of_rows(head: str, tmp_path: Path) -> None:
    original = model(head=head, num_labels=1 if head == "sequence-classification" else 3)
    assert export(original, "onnx", tmp_path / "out").differences.keys() == {"model.onnx"}
    session = ort.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    assert tuple(output.name for output in session.get_outputs()) == OUTPUTS[original.config.head]
    assert [(given.name, given.type) for given in session.get_inputs()] == [
        (name, "tensor(int64)") for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    for rows in (1, 4):
        inputs = inputs_of(original, 5, rows=rows)
        outputs = onnx_file.session_run(tmp_path / "out" / "model.onnx")(inputs)
        for ours, theirs in zip(model_run(original.config, original.flat)(inputs), outputs, strict=True):
            assert theirs.shape == ours.shape
            np.testing.assert_allclose(theirs, ours, atol=5e-6 * float(np.abs(ours).max()))


@pytest.mark.parametrize("changes", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_every_architecture_gives_the_outputs_of_the_model(changes: dict[str, Any], tmp_path: Path) -> None:
    original = model(**changes)
    export(original, "onnx", tmp_path / "out")
    again = read_model(tmp_path / "out")
    assert again.config == original.config
    assert same(again.flat, original.flat)
    for rows in (1, 3):
        inputs = inputs_of(original, 5, rows=rows)
        (ours,) = onnx_file.session_run(tmp_path / "out" / "model.onnx")(inputs)
        (theirs,) = model_run(original.config, original.flat)(inputs)
        np.testing.assert_allclose(ours, theirs, atol=5e-6 * np.abs(theirs).max())


def test_the_graph_has_no_loops_and_records_its_origin(tmp_path: Path) -> None:
    original = model(tie_word_embeddings=False, pre_norm=False, mask_padding=True)
    result = export(original, "onnx", tmp_path / "out", Settings(lengths=(3, 5)))
    assert result.differences.keys() == {"model-3.onnx", "model.onnx"}
    graph = onnx.load(tmp_path / "out" / "model-3.onnx").graph
    assert not {node.op_type for node in graph.node} & {"Loop", "Scan", "If", "Conv", "DFT"}
    weights = {tensor.name for tensor in graph.initializer} & original.flat.keys()
    assert weights == {path for path in original.flat if "/fs4/" not in path and "/bs4/" not in path}


@pytest.mark.parametrize(("name", "value"), [("ids", 11), ("ids", -1), ("types", 2), ("types", -1)])
def test_ids_out_of_range_are_rejected(name: str, value: int, tmp_path: Path) -> None:
    original = model()
    export(original, "onnx", tmp_path / "out")
    inputs = inputs_of(original, 5)
    getattr(inputs, name)[0, 0] = value
    with pytest.raises(Exception, match="out of data bounds"):
        onnx_file.session_run(tmp_path / "out" / "model.onnx")(inputs)


def test_rows_longer_than_the_longest_dense_matrix(tmp_path: Path) -> None:
    original = model(hidden_size=16, max_position_embeddings=1300)
    flat = {path: -np.abs(array) if path.endswith("A_re") else array for path, array in original.flat.items()}
    result = export(dataclasses.replace(original, flat=flat), "onnx", tmp_path / "out")
    assert result.differences.keys() == {"model.onnx"}  # `export` has checked that it is below 5e-5


def test_large_weights_are_stored_in_a_separate_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MAX_SINGLE_FILE", 1000)
    original = model(hidden_size=32)
    result = export(original, "onnx", tmp_path / "out", Settings(lengths=(3, 5)))
    assert all(difference < 5e-6 for difference in result.differences.values())
    assert (tmp_path / "out" / "model-3.onnx_data").stat().st_size > 10_000


@pytest.mark.parametrize("head", ["masked-lm", "encoder", "question-answering"])
@pytest.mark.parametrize("beside", [False, True])
def test_an_onnx_file_is_read_back_as_a_model(
    head: str, beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if beside:
        monkeypatch.setattr(onnx_file, "MAX_SINGLE_FILE", 1000)
    original = model(head=head, hidden_size=32)
    export(original, "onnx", tmp_path / "out", Settings(lengths=(3, 5)))
    again = read_model(tmp_path / "out")
    assert again.config == original.config
    assert again.source_file.name == "model.onnx"
    assert same(again.flat, original.flat)
    if beside:
        (tmp_path / "out" / "model.onnx_data").rename(tmp_path / "model.onnx_data")
        with pytest.raises(RequestError, match=r"has its weights in model\.onnx_data, which is missing"):
            read_model(tmp_path / "out")
        for tensor in (
            strange := onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
        ).graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = "../model.onnx_data"
        (tmp_path / "out" / "model.onnx").write_bytes(strange.SerializeToString())
        with pytest.raises(RequestError, match="only files in the same folder can be used"):
            read_model(tmp_path / "out")


def test_onnx_files_of_other_tools_are_rejected(tmp_path: Path) -> None:
    export(model(), "onnx", tmp_path / "out")
    path = tmp_path / "out" / "model.onnx"
    original = onnx.load(path)
    (kept,) = [entry for entry in original.metadata_props if entry.key == SSM_METADATA]
    kept.value = "not base64"
    path.write_bytes(original.SerializeToString())
    with pytest.raises(RequestError, match="its state-space parameters are malformed"):
        read_model(tmp_path / "out")
    original.metadata_props.remove(kept)
    path.write_bytes(original.SerializeToString())
    with pytest.raises(RequestError, match="It was written by an older release"):
        read_model(tmp_path / "out")
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(RequestError, match="is not an ONNX file"):
        read_model(tmp_path / "out")


def test_int8_exports_report_size_and_accuracy(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    bigs(*finetune("mrpc", pretrained, glue, tmp_path / "mrpc")).fine()
    opened = open_model(find_model(str(tmp_path / "mrpc")))
    result = export(opened, "onnx", tmp_path / "out", Settings(int8=True))
    assert result.differences["model.onnx"] < 5e-6 < result.differences["model-int8.onnx"]
    size, outputs, accuracy = result.notes
    files = [tmp_path / "out" / name for name in ("model-int8.onnx", "model.onnx")]
    small, large = (path.stat().st_size for path in files)
    assert small < 0.9 * large
    assert size == f"model-int8.onnx: {small / 1e6:,.1f} MB instead of {large / 1e6:,.1f}."
    pattern = r"by (\S+) of the largest output in a batch of 13, and by \1 in single rows; .* alone differ by (\S+)\.$"
    match = re.search(pattern, outputs)
    assert match
    assert float(match[1]) < 0.2
    assert float(match[2]) < 5e-6
    assert outputs in (tmp_path / "out" / "README.md").read_text()
    measured = 100 * json.loads((tmp_path / "mrpc" / "results.json").read_text())["metrics"]["accuracy"]
    assert f"instead of {measured:.1f}% on" in accuracy
    notes = export(model(), "onnx", tmp_path / "bare", Settings(int8=True)).notes
    assert "accuracy not measured" in notes[2]


@pytest.mark.parametrize(
    ("head", "tied"),
    [("masked-lm", True), ("masked-lm", False), ("sequence-classification", True), ("multiple-choice", True)],
)
def test_int8_outputs_do_not_depend_on_the_batch(head: str, tied: bool, tmp_path: Path) -> None:
    original = model(head=head, num_labels=3, hidden_size=32, intermediate_size=48, tie_word_embeddings=tied)
    # Initial values: `parameters` would saturate the pooler and hide the effect of quantization.
    flat = to_flat(initialize(original.config, 0), original.config)
    original = dataclasses.replace(original, flat={k: v * 10 if k.endswith("/kernel") else v for k, v in flat.items()})
    result = export(original, "onnx", tmp_path / "out", Settings(int8=True))
    assert 1e-4 < result.differences["model-int8.onnx"] < 0.2
    run = onnx_file.session_run(tmp_path / "out" / "model-int8.onnx")
    inputs = inputs_of(original, 5, rows=64)
    (together,) = run(inputs)
    alone = [run(Inputs(*(array[i : i + 1] for array in inputs)))[0][0] for i in range(64)]
    np.testing.assert_allclose(together, alone, atol=1e-6 * float(np.abs(together).max()))
    graph = onnx.load(tmp_path / "out" / "model-int8.onnx")
    assert {entry.domain for entry in graph.opset_import} == {""}
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds.count("MatMulInteger") == 7 * original.config.num_hidden_layers + {"masked-lm": 2}.get(head, 0)
    matrices = [t for t in graph.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 2]
    large = {matrix.name for matrix in matrices if min(matrix.dims) >= 8} & original.flat.keys()
    assert all(name.endswith(POOLER) for name in large)


def test_exported_files_name_their_producer(tmp_path: Path) -> None:
    export(model(), "onnx", tmp_path / "out", Settings(int8=True))
    for file in (tmp_path / "out").glob("*.onnx"):
        original = onnx.load(file)
        assert (original.producer_name, original.producer_version) == ("bigs", version("bigs"))
