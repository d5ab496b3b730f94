"""The `transformers` export, loaded by that library on PyTorch. Skipped if either is not installed."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli.checkpoints.arrays import Flat
from bigs_cli.checkpoints.folder import read_model
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.export.check import model_run
from bigs_cli.export.formats import export
from bigs_cli.export.settings import Inputs, Settings, inputs_of
from bigs_cli.export.transformers_folder import AUTO_CLASSES
from tests.checkpoints.tiny import ARCHITECTURES, HEADS, config, parameters, same
from tests.export.remote_code import own_module_cache

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'bigs[torch]'")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'bigs[torch]'")

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "old",
    "stone",
    "house",
    "is",
    "by",
    "water",
    "and",
    "trees",
]
SIZES: dict[str, Any] = {"vocab_size": len(WORDS), "hidden_size": 8, "max_position_embeddings": 16}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_module_cache(tmp_path, monkeypatch)


def small(of: Any) -> Flat:
    return {path: array * np.float32(0.3) if array.ndim > 1 else array for path, array in parameters(of).items()}


def model(tmp_path: Path, **changes: Any) -> OpenModel:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    of = config(**{**SIZES, **changes})
    return OpenModel("tiny", of, small(of), tmp_path / "vocab.txt", "a tiny model")


def exported(tmp_path: Path, **changes: Any) -> tuple[OpenModel, Path]:
    made = model(tmp_path, **changes)
    result = export(made, "transformers", tmp_path / "out")
    assert set(result.differences) == {"model.safetensors", "modeling_bigs.py"}
    return made, tmp_path / "out"


def load(folder: Path, head: str, **more: Any) -> Any:
    auto = next(name for name, of in AUTO_CLASSES.items() if of == head)
    return getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True, **more)


def run(loaded: Any, inputs: Inputs, **more: Any) -> Any:
    ids, mask, types = (torch.from_numpy(array.astype(np.int64)) for array in inputs)
    return loaded(input_ids=ids, attention_mask=mask, token_type_ids=types, **more)


@pytest.mark.parametrize("changes", ARCHITECTURES.values(), ids=ARCHITECTURES)
@pytest.mark.parametrize("pre_norm", [True, False])
def test_every_architecture_gives_the_outputs_of_the_model(
    changes: dict[str, Any], pre_norm: bool, tmp_path: Path
) -> None:
    original, folder = exported(tmp_path, pre_norm=pre_norm, **changes)
    loaded = load(folder, original.config.head)
    inputs = inputs_of(original, 12, rows=3)
    outputs = run(loaded, inputs, output_hidden_states=True)
    (expected,) = model_run(original.config, original.flat)(inputs)
    np.testing.assert_allclose(outputs.logits.detach(), expected, atol=5e-6 * np.abs(expected).max())
    outputs.logits.square().sum().backward()
    without = [name for name, weight in loaded.named_parameters() if weight.grad is None]
    assert not without
    if original.config.attends:  # A row without a real token gives no NaN.
        empty = run(loaded, Inputs(*(np.zeros_like(array) for array in inputs)))
        assert torch.isfinite(empty.logits).all()


@pytest.mark.parametrize("head", HEADS)
def test_every_head_loads_with_its_auto_class(head: str, tmp_path: Path) -> None:
    made, folder = exported(tmp_path, head=head, num_labels=3)
    loaded = load(folder, head).eval()
    inputs = inputs_of(made, 13, rows=3)
    with torch.no_grad():
        outputs = run(loaded, inputs)
        states = run(loaded, inputs, output_hidden_states=True).hidden_states
        plain = run(loaded, inputs, return_dict=False)
    expected = model_run(made.config, made.flat)(inputs)
    got = [value.numpy() for name, value in outputs.items() if name != "hidden_states"]
    for ours, theirs, listed in zip(expected, got, plain, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=2e-6 * float(np.abs(ours).max()))
        np.testing.assert_array_equal(theirs, listed.numpy())
    assert len(states) == made.config.num_hidden_layers + 1
    loaded.save_pretrained(tmp_path / "again")
    assert same(read_model(tmp_path / "again").flat, made.flat)


@pytest.mark.parametrize(
    ("head", "missing"),
    [
        ("masked-lm", set()),
        ("encoder", {"pooler.dense.weight", "pooler.dense.bias"}),
        ("question-answering", {"qa_outputs.weight", "qa_outputs.bias"}),
        (
            "sequence-classification",
            {"bigs.pooler.dense.weight", "bigs.pooler.dense.bias", "classifier.weight", "classifier.bias"},
        ),
    ],
)
def test_transformers_reports_missing_weights(
    head: str, missing: set[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, folder = exported(tmp_path)
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        _, info = load(folder, head, output_loading_info=True)
    finally:
        logger.removeHandler(caplog.handler)
    assert set(info["missing_keys"]) == missing
    assert all(name in caplog.text for name in missing)
    assert ("MISSING" in caplog.text) == bool(missing)


@pytest.mark.parametrize(("name", "value"), [("ids", len(WORDS)), ("ids", -1), ("types", 2), ("types", -1)])
def test_ids_out_of_range_are_rejected(name: str, value: int, tmp_path: Path) -> None:
    made, folder = exported(tmp_path)
    inputs = inputs_of(made, 5)
    getattr(inputs, name)[0, 0] = value
    with pytest.raises(IndexError):
        run(load(folder, "masked-lm"), inputs)


@pytest.mark.parametrize(
    "changes",
    [
        {"mask_padding": True},
        {"pre_norm": False, "pooler_type": "mean", "head": "sequence-classification", "num_labels": 1},
        {"tie_word_embeddings": False},
        {"max_position_embeddings": 1500},
    ],
)
def test_config_variants_give_the_same_outputs(changes: dict[str, Any], tmp_path: Path) -> None:
    made, folder = exported(tmp_path, **changes)
    loaded = load(folder, made.config.head).eval()
    inputs = inputs_of(made, made.config.max_position_embeddings)
    with torch.no_grad():
        (got,) = [run(loaded, inputs).logits.numpy()]
    (ours,) = model_run(made.config, made.flat)(inputs)
    np.testing.assert_allclose(got, ours, atol=5e-5 * float(np.abs(ours).max()))


def test_gradients_of_chunked_and_dense_mixing_agree(tmp_path: Path) -> None:
    """The gradients of all parameters are the same with chunks and with one matrix."""
    made, folder = exported(tmp_path, max_position_embeddings=1100)
    loaded = load(folder, "masked-lm").eval()
    module = sys.modules[type(loaded.bigs.encoder).__module__]
    inputs = inputs_of(made, 700)
    gradients = []
    for longest in (module.LONGEST_MATRIX, 300):
        module.LONGEST_MATRIX = longest
        loaded.zero_grad()
        run(loaded, inputs).logits.square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in loaded.named_parameters()})
    for name, gradient in gradients[0].items():
        scale = float(gradient.abs().max())
        assert scale > 0, name
        np.testing.assert_allclose(gradients[1][name].numpy(), gradient.numpy(), atol=1e-4 * scale, err_msg=name)


def test_evaluation_between_training_steps_uses_the_new_weights(tmp_path: Path) -> None:
    made, folder = exported(tmp_path)
    loaded = load(folder, "masked-lm").eval()
    inputs = inputs_of(made, 16)
    labels = torch.from_numpy(np.where(inputs.mask > 0, inputs.ids, -100).astype(np.int64))
    optimizer = torch.optim.SGD(loaded.parameters(), 0.05)
    losses = []
    for _ in range(8):
        with torch.no_grad():
            evaluated = float(run(loaded, inputs, labels=labels).loss)
        loss = run(loaded, inputs, labels=labels).loss
        assert evaluated == pytest.approx(loss.item(), abs=1e-5)
        losses.append(evaluated)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize(
    ("head", "labels"),
    [
        ("pretraining", {"labels": [[1] * 8] * 2, "next_sentence_label": [0, 1]}),
        ("next-sentence", {"labels": [0, 1]}),
        ("sequence-classification", {"labels": [2, 0]}),
        ("token-classification", {"labels": [[1] * 7 + [-100]] * 2}),
        ("question-answering", {"start_positions": [1, 3], "end_positions": [2, 900]}),
        ("multiple-choice", {"labels": [1, 0]}),
    ],
)
def test_every_head_has_a_loss(head: str, labels: dict[str, Any], tmp_path: Path) -> None:
    made, folder = exported(tmp_path, head=head, num_labels=3)
    loaded = load(folder, head).eval()
    given = {name: torch.tensor(value) for name, value in labels.items()}
    outputs = run(loaded, inputs_of(made, 8), **given)
    logits = [outputs[name] for name in outputs if name.endswith("logits")]
    expected = [
        torch.nn.functional.cross_entropy(logit.flatten(0, -2), torch.where(label < 100, label, -100).flatten())
        for logit, label in zip(logits, given.values(), strict=True)
    ]
    total = sum(expected) / (2 if head == "question-answering" else 1)
    assert outputs.loss.item() == pytest.approx(total.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ("masked-lm", ["labels"]),
        ("pretraining", ["labels", "next_sentence_label"]),
        ("sequence-classification", ["labels"]),
        ("multiple-choice", ["labels"]),
        ("question-answering", ["start_positions", "end_positions"]),
    ],
)
def test_trainers_find_the_label_arguments(head: str, names: list[str], tmp_path: Path) -> None:
    from transformers.utils.generic import find_labels

    _, folder = exported(tmp_path, head=head)
    loaded = load(folder, head)
    assert find_labels(type(loaded)) == names
    assert loaded.accepts_loss_kwargs is False


def test_training_after_inference_mode_with_frozen_kernels(tmp_path: Path) -> None:
    made, folder = exported(tmp_path)
    loaded = load(folder, "masked-lm").eval()
    for name, parameter in loaded.named_parameters():
        parameter.requires_grad_("fs4" not in name and "bs4" not in name)
    inputs = inputs_of(made, 8)
    with torch.inference_mode():
        run(loaded, inputs)
    run(loaded, inputs).logits.sum().backward()
    assert loaded.bigs.encoder.layer[0].dv.weight.grad is not None


def test_an_encoder_with_large_hidden_states(tmp_path: Path) -> None:
    """The tanh of the pooler amplifies rounding differences of hidden states in the thousands."""
    made = model(tmp_path, head="encoder")
    for path in made.flat:
        if path.endswith("/do/kernel"):
            made.flat[path] = made.flat[path] * np.float32(1000)
    assert export(made, "transformers", tmp_path / "out").differences["modeling_bigs.py"] < 5e-5


def test_16_bit_models_keep_ssm_parameters_in_float32(tmp_path: Path) -> None:
    made = model(tmp_path)
    result = export(made, "transformers", tmp_path / "out", Settings(dtype="bfloat16"))
    assert 1e-5 < result.differences["modeling_bigs.py"] < 0.1
    loaded = load(tmp_path / "out", "masked-lm")
    kept = {name: p.dtype for name, p in loaded.named_parameters()}
    assert {dtype for name, dtype in kept.items() if "s4." in name} == {torch.float32}
    assert kept["bigs.encoder.layer.0.dv.weight"] == torch.bfloat16


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("head", [head for head in HEADS if head != "encoder"])
def test_logits_of_16_bit_models_are_float32(head: str, autocast: bool, tmp_path: Path) -> None:
    made, folder = exported(tmp_path, head=head, num_labels=3)
    loaded = load(folder, head, dtype=torch.float32 if autocast else torch.bfloat16).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        outputs = run(loaded, inputs_of(made, 13, rows=50))
    for name in [name for name in outputs if name.endswith("logits")]:
        assert outputs[name].dtype == torch.float32
        assert (outputs[name].bfloat16().float() == outputs[name]).float().mean() < 0.05


def test_changing_the_task_and_enlarging_the_vocabulary(tmp_path: Path) -> None:
    _, folder = exported(tmp_path)
    loaded = load(folder, "sequence-classification", num_labels=5)
    state = load(folder, "masked-lm").state_dict()
    for name, value in loaded.bigs.state_dict().items():
        if not name.startswith("pooler"):
            assert torch.equal(value, state[f"bigs.{name}"]), name
    assert all(bool(torch.isfinite(p).all()) for p in loaded.parameters())
    words = load(folder, "masked-lm")
    words.resize_token_embeddings(20)
    assert words(input_ids=torch.tensor([[2, 19, 3]])).logits.shape == (1, 3, 20)
    assert words.get_output_embeddings().weight is words.get_input_embeddings().weight


PIPELINES = """
import json, sys
from transformers import pipeline
fill = pipeline("fill-mask", model=sys.argv[1], trust_remote_code=True)
sort = pipeline("text-classification", model=sys.argv[2], trust_remote_code=True)
tag = pipeline("token-classification", model=sys.argv[3], trust_remote_code=True)
print(json.dumps([
    [found["token_str"] for found in fill("the old [MASK] is by the water", top_k=3)],
    sort(["the house", {"text": "the house", "text_pair": "trees and water"}][:1]),
    [float(found["score"]) for found in tag("the old house")],
]))
"""


def test_pipelines_run_without_bigs(tmp_path: Path) -> None:
    folders = []
    for head in ("masked-lm", "sequence-classification", "token-classification"):
        made = model(tmp_path, head=head, num_labels=2, labels=("no", "yes"))
        folders.append(tmp_path / head)
        export(made, "transformers", folders[-1])
    environment = {"PATH": "", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", PIPELINES, *map(str, folders)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    filled, sorted_, tagged = json.loads(done.stdout.splitlines()[-1])
    assert len(filled) == 3
    assert set(filled) <= set(WORDS)
    assert sorted_[0]["label"] in ("no", "yes")
    assert all(0.5 <= score <= 1 for score in tagged)
