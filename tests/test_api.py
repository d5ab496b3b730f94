"""The Python API: one class per head, created from a config, a folder or a model with another head."""

from __future__ import annotations

import copy
import importlib.metadata
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bigs_cli
from bigs_cli import BiGSForSequenceClassification, BiGSModel, load_model
from bigs_cli.api import CLASSES, Pretrained
from bigs_cli.checkpoints.config_json import ARCHITECTURES
from bigs_cli.checkpoints.folder import read_model, write_flax
from bigs_cli.core.errors import RequestError
from bigs_cli.models.published import to_unstacked
from tests.checkpoints.tiny import HEADS, config, parameters, same

B, L, V, H, LABELS, CHOICES = 2, 5, 11, 4, 3, 2
IDS = [[2, 7, 1, 3, 9], [2, 5, 3, 0, 0]]
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "encoder": {"last_hidden_state": (B, L, H), "pooler_output": (B, H)},
    "masked-lm": {"logits": (B, L, V)},
    "pretraining": {"prediction_logits": (B, L, V), "seq_relationship_logits": (B, 2)},
    "next-sentence": {"logits": (B, 2)},
    "sequence-classification": {"logits": (B, LABELS)},
    "token-classification": {"logits": (B, L, LABELS)},
    "question-answering": {"start_logits": (B, L), "end_logits": (B, L)},
    "multiple-choice": {"logits": (B, CHOICES)},
}


def ids_for(head: str) -> list[Any]:
    return [[row, row[::-1]] for row in IDS] if head == "multiple-choice" else IDS


def outputs(model: Pretrained, *inputs: Any, **named: Any) -> dict[str, np.ndarray]:
    """Return the main outputs of the head by name."""
    result = model(*inputs, **named)
    return {name: np.asarray(getattr(result, name)) for name in SHAPES[model.head]}


def written(folder: Path, **changes: Any) -> Path:
    """Write a tiny model with `changes` without the API; its weights are too small to saturate the pooler."""
    of = config(**changes)
    folder.mkdir()
    write_flax(folder, of, {path: array * np.float32(0.3) for path, array in parameters(of).items()})
    return folder


def test_every_head_has_a_class_with_its_published_name() -> None:
    assert set(CLASSES) == set(HEADS)
    for head, architecture in ARCHITECTURES.items():
        assert getattr(bigs_cli, architecture) is CLASSES[head]
    assert {*ARCHITECTURES.values(), "BiGSConfig", "load_model", "__version__"} == set(dir(bigs_cli))
    assert bigs_cli.__version__ == importlib.metadata.version("bigs")
    with pytest.raises(AttributeError, match="has no attribute 'BiGSForPoetry'"):
        _ = bigs_cli.BiGSForPoetry  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("head", HEADS)
def test_a_saved_model_loads_unchanged(head: str, tmp_path: Path) -> None:
    of = config(head=head, num_labels=LABELS)
    model = CLASSES[of.head](of, seed=1)
    ids = ids_for(head)
    actual = outputs(model, ids)
    assert {name: array.shape for name, array in actual.items()} == SHAPES[head]
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in actual.values())

    model.save_pretrained(tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    assert type(again) is type(model)
    assert (again.config, again.num_parameters) == (of, model.num_parameters)
    assert again.transfer is not None
    assert (again.transfer.new, again.transfer.unused, again.transfer.changed) == ([], [], {})
    assert again.source == str(tmp_path / "saved" / "flax_model.msgpack")
    for name, array in outputs(again, np.asarray(ids)).items():
        np.testing.assert_allclose(array, actual[name], atol=1e-6)

    with pytest.raises(RequestError, match="is in use"):
        model.save_pretrained(tmp_path / "saved")


def test_attention_mask_and_token_types_are_optional(tmp_path: Path) -> None:
    model = BiGSForSequenceClassification.from_pretrained(written(tmp_path / "m", head="sequence-classification"))
    plain = outputs(model, IDS)["logits"]
    assert not np.allclose(plain[1], outputs(model, IDS, attention_mask=np.ones((B, L), int))["logits"][1])
    assert not np.allclose(plain, outputs(model, IDS, token_type_ids=np.ones((B, L), int))["logits"])


def test_positions_select_the_predicted_tokens(tmp_path: Path) -> None:
    model = load_model(written(tmp_path / "m"))
    everywhere, chosen = model(IDS).logits, model(IDS, positions=[[1, 4], [0, 2]]).logits
    np.testing.assert_allclose(chosen, [everywhere[0, [1, 4]], everywhere[1, [0, 2]]], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": -1}, "batch_size is -1; it must be an integer of at least 1."),
        ({"batch_size": 0}, "batch_size is 0; it must be an integer of at least 1."),
        ({"batch_size": 2.5}, "batch_size is 2.5; it must be an integer of at least 1."),
        ({"length": 0}, "length is 0; it must be an integer of at least 4."),
        ({"length": 33}, "Length 33 is too long"),
        ({"trim_padding": "no"}, "trim_padding is 'no'; it must be True, False or None."),
        ({"texts": None}, "texts is a NoneType; it must be a text, a pair, a dict, or a list of these."),
        ({"texts": 3}, "texts is a int; it must be a text, a pair, a dict, or a list of these."),
    ],
)
def test_arguments_out_of_range_are_rejected(arguments: dict[str, Any], message: str, models: Path) -> None:
    model = load_model(models / "sequence-classification")
    for method in (model.predict, model.embed):
        with pytest.raises(RequestError, match=re.escape(message)):
            method(**{"texts": "a river", **arguments})


@pytest.mark.parametrize("top", [0, -1, None, True, 1.5])
def test_top_must_be_a_positive_integer(top: Any, models: Path) -> None:
    with pytest.raises(RequestError, match=re.escape(f"top is {top!r}; it must be an integer of at least 1.")):
        load_model(models / "masked-lm").predict("a [MASK]", top=top)


def test_invalid_constructor_arguments_are_rejected() -> None:
    of, other = config(head="encoder"), config(head="encoder", hidden_size=8)
    with pytest.raises(ValueError, match=re.escape("seed is -1; it must be a non-negative integer.")):
        BiGSModel(of, seed=-1)
    with pytest.raises(ValueError, match="config is a dict; BiGSModel requires a BiGSConfig"):
        BiGSModel(of.model_dump())  # pyright: ignore[reportArgumentType]
    params = to_unstacked(parameters(other))
    assert BiGSModel(other, params)(IDS).pooler_output.shape == (B, 8)
    with pytest.raises(ValueError, match="params do not fit the config: embeddings/LayerNorm/bias, "):
        BiGSModel(of, params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_labels": 0}, "The config is invalid. num_labels is 0: Input should be greater than or equal to 1."),
        ({"num_labels": "many"}, "num_labels is 'many': Input should be a valid integer"),
        ({"labels": ("a", "b", "c")}, "labels names 3 classes but num_labels is 2."),
    ],
)
def test_config_fields_out_of_range_are_rejected(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=re.escape(message)):
        BiGSForSequenceClassification.from_pretrained(written(tmp_path / "m"), **changes)


def test_a_model_can_be_copied_and_pickled(models: Path) -> None:
    model = load_model(models / "sequence-classification")
    expected = model.predict("the old house")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other) is type(model)
        assert (other.config, other.source, other.transfer) == (model.config, model.source, model.transfer)
        assert other.predict("the old house") == expected
        np.testing.assert_array_equal(other([[1, 2]]).logits, model([[1, 2]]).logits)
    result = pickle.loads(pickle.dumps(model([[1, 2]])))
    np.testing.assert_array_equal(result.logits, model([[1, 2]]).logits)


def test_repr_describes_the_model(tmp_path: Path) -> None:
    model = load_model(written(tmp_path / "m", head="sequence-classification", num_labels=3))
    size = f"parameters: {model.num_parameters:,}; layers: 2; hidden_size: 4"
    source = tmp_path / "m" / "flax_model.msgpack"
    assert repr(model) == (
        f"BiGSForSequenceClassification(head: sequence-classification; labels: 3; {size}; source: {source})"
    )
    assert repr(BiGSModel(config(head="encoder"))).endswith("source: initial parameters; untrained: pooler/dense)")


def test_a_task_model_loads_an_encoder(tmp_path: Path) -> None:
    folder = written(tmp_path / "encoder", head="encoder")
    with pytest.warns(UserWarning, match=r"newly initialized: classifier/bias, classifier/kernel\."):
        model = BiGSForSequenceClassification.from_pretrained(folder, num_labels=LABELS)
    assert model.transfer is not None
    assert model.transfer.new == ["classifier/bias", "classifier/kernel"]
    assert model.transfer.unused == []
    assert len(model.transfer.loaded) == len(parameters(config(head="encoder")))
    assert "new (2): classifier/bias, classifier/kernel" in model.transfer.describe()
    assert model(IDS).logits.shape == (B, LABELS)
    np.testing.assert_allclose(model(IDS).pooler_output, load_model(folder)(IDS).pooler_output, atol=1e-6)


def test_a_task_model_loads_the_encoder_of_another_task(tmp_path: Path) -> None:
    folder = written(tmp_path / "words")
    with pytest.warns(UserWarning, match="newly initialized: qa_outputs/bias, qa_outputs/kernel"):
        model = CLASSES["question-answering"].from_pretrained(folder)
    assert model.transfer is not None
    assert model.transfer.new == ["qa_outputs/bias", "qa_outputs/kernel"]
    assert {path.split("/")[0] for path in model.transfer.unused} == {"cls"}
    model.save_pretrained(tmp_path / "answers")
    before, after = (read_model(tmp_path / name).flat for name in ("words", "answers"))
    encoder = {path for path in before if path.startswith("s4_bert/")}
    assert encoder == set(model.transfer.loaded)
    assert same({path: before[path] for path in encoder}, {path: after[path] for path in encoder})


def test_an_encoder_loads_from_a_task_checkpoint(tmp_path: Path) -> None:
    folder = written(tmp_path / "task", head="sequence-classification")
    model = BiGSModel.from_pretrained(folder)
    assert model.transfer is not None
    assert (model.transfer.new, model.transfer.unused) == ([], ["classifier/bias", "classifier/kernel"])
    model.save_pretrained(tmp_path / "encoder")
    task, encoder = (read_model(tmp_path / name).flat for name in ("task", "encoder"))
    assert same(encoder, {path.removeprefix("s4_bert/"): a for path, a in task.items() if path.startswith("s4_bert/")})
    np.testing.assert_allclose(model(IDS).pooler_output, load_model(folder)(IDS).pooler_output, atol=1e-6)


def test_a_different_number_of_labels_initializes_a_new_classifier(tmp_path: Path) -> None:
    of = {"head": "sequence-classification", "num_labels": 3, "labels": ("no", "maybe", "yes")}
    folder = written(tmp_path / "m", **of)
    with pytest.warns(UserWarning, match="newly initialized: classifier/bias, classifier/kernel"):
        model = BiGSForSequenceClassification.from_pretrained(folder, num_labels=1)
    assert (model.config.num_labels, model.config.labels) == (1, None)
    assert model.transfer is not None
    assert model.transfer.new == ["classifier/bias", "classifier/kernel"]
    assert model.transfer.unused == ["classifier/bias", "classifier/kernel"]
    assert model(IDS).logits.shape == (B, 1)


def test_classifier_columns_are_matched_by_label_name(tmp_path: Path) -> None:
    of = {"head": "sequence-classification", "num_labels": 3, "labels": ("no", "maybe", "yes")}
    folder = written(tmp_path / "m", **of)
    model = BiGSForSequenceClassification.from_pretrained(folder, labels=("yes", "no", "maybe"))
    np.testing.assert_allclose(model(IDS).logits, load_model(folder)(IDS).logits[:, [2, 0, 1]], atol=1e-6)


def test_incompatible_arguments_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="BiGSModel has the head encoder; the config is for masked-lm"):
        BiGSModel(config())
    folder = written(tmp_path / "m")
    with pytest.raises(ValueError, match="BiGSModel has the head encoder; the config is for question-answering"):
        BiGSModel.from_pretrained(folder, head="question-answering")
    with pytest.raises(RequestError, match=r"no field 'numlabels'\. Did you mean 'num_labels'"):
        BiGSModel.from_pretrained(folder, numlabels=3)
    with pytest.raises(RequestError, match=r"their encoders differ \(hidden_size 8 instead of 4"):
        BiGSModel.from_pretrained(folder, hidden_size=8)
    with pytest.raises(RequestError, match=re.escape(f"There is no model '{tmp_path}/none'")):
        load_model(tmp_path / "none")


# --- published checkpoints ------------------------------------------------------------------------------------


def close(actual: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=5e-5 * np.abs(expected).max())


@pytest.mark.parametrize("of", ["mlm", "seqcls", "seqreg", "pretraining", "mc"])
def test_published_models_reproduce_their_outputs(of: str, shared: Path) -> None:
    folder = shared / "fixtures" / f"flax_hippo_{of}"
    model = load_model(folder)
    with np.load(shared / "fixtures" / "inputs.npz") as given, np.load(folder / "reference.npz") as reference:
        names = [("mc_" if of == "mc" else "") + name for name in ("input_ids", "attention_mask", "token_type_ids")]
        result = model(*(given[name] for name in names))
        for name in SHAPES[model.head]:
            close(result[name], reference[name])


@pytest.mark.parametrize(("form", "logits"), [("flax", "logits"), ("torch", "tanh:logits")])
def test_a_published_classifier_loads_in_both_layouts(form: str, logits: str, shared: Path) -> None:
    folder = shared / "fixtures" / f"{form}_hippo_seqcls"
    model = BiGSForSequenceClassification.from_pretrained(folder)
    with np.load(shared / "fixtures" / "inputs.npz") as given, np.load(folder / "reference.npz") as reference:
        inputs = {"attention_mask": given["attention_mask"], "token_type_ids": given["token_type_ids"]}
        close(model(given["input_ids"], **inputs).logits, reference[logits])
