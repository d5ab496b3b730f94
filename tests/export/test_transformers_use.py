"""The `transformers` folder in use: changed weights, torch.func, compilation, training, other libraries."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli.export.settings import inputs_of
from tests.export.test_transformers import exported, load, own_cache, run, torch, transformers  # noqa: F401

IDS = [[2, 5, 6, 7, 8, 3], [2, 9, 4, 11, 3, 0]]
SSM = ("fs4", "bs4")


def ssm_parameters(model: Any) -> list[Any]:
    return [p for name, p in model.named_parameters() if any(part in name for part in SSM)]


def logits(model: Any, ids: Any = IDS) -> Any:
    with torch.no_grad():
        return model(input_ids=torch.tensor(ids)).logits


def copy_into_data(model: Any, new: dict[str, Any]) -> Any:
    for name, parameter in model.named_parameters():
        parameter.data.copy_(new[name])
    return model


def set_data(model: Any, new: dict[str, Any]) -> Any:
    for name, parameter in model.named_parameters():
        parameter.data = new[name].clone()
    return model


def vector(model: Any, new: dict[str, Any]) -> Any:
    values = torch.cat([new[name].flatten() for name, _ in model.named_parameters()])
    torch.nn.utils.vector_to_parameters(values, model.parameters())
    return model


def new_parameters(model: Any, new: dict[str, Any]) -> Any:
    for module_name, module in model.named_modules():
        for name in list(module._parameters):
            path = f"{module_name}.{name}"
            if path in new and any(part in path for part in SSM):
                setattr(module, name, torch.nn.Parameter(new[path].clone()))
    return model


def numpy_view(model: Any, new: dict[str, Any]) -> Any:
    for name, parameter in model.named_parameters():
        parameter.detach().numpy()[...] = new[name].numpy()
    return model


def load_state(model: Any, new: dict[str, Any]) -> Any:
    model.load_state_dict(new, strict=False)
    return model


def assigned_state(model: Any, new: dict[str, Any]) -> Any:
    model.load_state_dict(new, strict=False, assign=True)
    return model


def deep_copy(model: Any, new: dict[str, Any]) -> Any:
    return copy_into_data(copy.deepcopy(model), new)


def pickled(model: Any, new: dict[str, Any]) -> Any:
    return copy_into_data(pickle.loads(pickle.dumps(model)), new)


CHANGES: list[Callable[[Any, dict[str, Any]], Any]] = [
    copy_into_data,
    set_data,
    vector,
    new_parameters,
    numpy_view,
    load_state,
    assigned_state,
    deep_copy,
    pickled,
]


@pytest.mark.parametrize("training", [False, True])
def test_every_parameter_change_affects_the_outputs(training: bool, tmp_path: Path) -> None:
    _, folder = exported(tmp_path)
    start = load(folder, "masked-lm", hidden_dropout_prob=0.0)
    new = {
        name: p.detach() * 1.5 + 0.05 if any(part in name for part in SSM) else p.detach()
        for name, p in start.named_parameters()
    }
    fresh = load(folder, "masked-lm", hidden_dropout_prob=0.0)
    fresh.load_state_dict(new, strict=False)
    expected, unchanged = logits(fresh), logits(start)
    assert float((expected - unchanged).abs().max()) > 0.01
    for change in CHANGES:
        model = load(folder, "masked-lm", hidden_dropout_prob=0.0).train(training)
        assert torch.equal(logits(model), unchanged)
        assert torch.equal(logits(change(model, new)), expected), change.__name__


def test_double_precision(tmp_path: Path) -> None:
    _, folder = exported(tmp_path)
    model = load(folder, "masked-lm").eval()
    single = logits(model)
    double = logits(model.to(torch.float64))
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, atol=2e-6 * float(single.abs().max()), rtol=0)


def test_torch_func_calls_gradients_and_ensembles(tmp_path: Path) -> None:
    """`torch.func` replaces the parameters; `grad` and `vmap` use tensors whose values cannot be read."""
    _, folder = exported(tmp_path)
    model = load(folder, "masked-lm").eval()
    ids = torch.tensor(IDS)
    logits(model)
    first = {name: p.detach() for name, p in model.named_parameters()}
    second = {name: p * 1.2 for name, p in first.items()}

    def call(parameters: dict[str, Any]) -> Any:
        return torch.func.functional_call(model, parameters, (ids,)).logits

    expected = [logits(copy_into_data(copy.deepcopy(model), parameters)) for parameters in (first, second)]
    for parameters, of_it in zip((first, second), expected, strict=True):
        torch.testing.assert_close(call(parameters), of_it)
    stacked = {name: torch.stack([p, second[name]]) for name, p in first.items()}
    torch.testing.assert_close(torch.func.vmap(call)(stacked), torch.stack(expected), atol=1e-5, rtol=1e-5)
    gradients = torch.func.grad(lambda parameters: call(parameters).square().mean())(first)
    model(input_ids=ids).logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, msg=name)


@pytest.mark.parametrize("dynamic", [None, True])
def test_the_compiled_graph_does_not_depend_on_the_length(
    dynamic: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, folder = exported(tmp_path, max_position_embeddings=60, head="sequence-classification", num_labels=2)
    model = load(folder, "sequence-classification").eval()
    layers = sys.modules[type(model.bigs.encoder).__module__]
    monkeypatch.setattr(layers, "LONGEST_MATRIX", 40)
    monkeypatch.setattr(layers, "CHUNK", 16)
    graphs = []

    def count(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=dynamic, backend=count)
    for length in (5, 16, 9, 33, 50, 60):
        inputs = inputs_of(made, length)
        with torch.no_grad():
            torch.testing.assert_close(run(compiled, inputs).logits, run(model, inputs).logits)
    # One graph with dense matrices and one with four chunks. By default, PyTorch compiles for the first length only.
    assert len(graphs) == (2 if dynamic else 3)


# 5.24 renames it "activation checkpointing"; both names work.
renamed = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*is deprecated:FutureWarning")


@renamed
def test_gradient_checkpointing_saves_memory_and_keeps_gradients(tmp_path: Path) -> None:
    _, folder = exported(tmp_path, num_hidden_layers=4, max_position_embeddings=64)
    ids = torch.randint(1, 14, (2, 64), generator=torch.Generator().manual_seed(0))
    results = []
    for checkpointed in (False, True):
        model = load(folder, "masked-lm").train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        kept: dict[int, int] = {}

        def keep(tensor: Any, kept: dict[int, int] = kept) -> Any:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        torch.manual_seed(1)  # the same dropout
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        results.append((sum(kept.values()), {name: p.grad for name, p in model.named_parameters()}))
    (everything, expected), (less, gradients) = results
    assert less < everything / 3
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


def test_unsupported_arguments_are_rejected(tmp_path: Path) -> None:
    _, folder = exported(tmp_path)
    model = load(folder, "masked-lm").eval()
    ids = torch.tensor(IDS)
    with pytest.raises(ValueError, match="This model does not return attention weights"):
        model(input_ids=ids, output_attentions=True)
    with pytest.raises(TypeError, match="BiGS does not take the argument position_ids"):
        model(input_ids=ids, position_ids=torch.arange(6)[None], head_mask=None)
    plain = model(input_ids=ids, output_attentions=False, use_cache=False, head_mask=None)
    torch.testing.assert_close(plain.logits, logits(model))
    choices = load(folder, "multiple-choice")
    with pytest.raises(ValueError, match="does not return attention weights"):
        choices(input_ids=ids[None], output_attentions=True)
    model.config.output_attentions = True
    with pytest.raises(ValueError, match="does not return attention weights"):
        model(input_ids=ids)


@renamed
@pytest.mark.parametrize(
    "more", [{}, {"torch_compile": True, "torch_compile_backend": "aot_eager"}, {"checkpoint": True}]
)
def test_the_trainer_runs(more: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="Trainer needs accelerate: pip install accelerate")
    _, folder = exported(tmp_path, head="sequence-classification", num_labels=2, labels=("no", "yes"))
    model = load(folder, "sequence-classification", hidden_dropout_prob=0.0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    rows = [{**tokenizer("the old house by the water"), "labels": 1}, {**tokenizer("trees and stone"), "labels": 0}] * 8
    more = {"gradient_checkpointing": True} if more.pop("checkpoint", False) else more
    arguments = transformers.TrainingArguments(
        output_dir=tmp_path / "trained",
        num_train_epochs=4,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        save_strategy="no",
        **more,
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before / 2
    trainer.save_model(tmp_path / "saved")
    again = load(tmp_path / "saved", "sequence-classification").eval()
    assert torch.equal(logits(again), logits(trainer.model.eval()))


def test_accelerate_offloads_weights(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed: pip install accelerate")
    _, folder = exported(tmp_path, max_position_embeddings=1300)
    model = load(folder, "masked-lm").eval()
    ids = np.random.default_rng(0).integers(1, 14, (2, 1200)).tolist()
    expected = [logits(model), logits(model, ids)]
    offloaded = accelerate.cpu_offload(load(folder, "masked-lm").eval(), execution_device=torch.device("cpu"))
    assert all(parameter.device.type == "meta" for parameter in ssm_parameters(offloaded))
    for got, ours in zip([logits(offloaded), logits(offloaded, ids)], expected, strict=True):
        torch.testing.assert_close(got, ours)
    mapped = load(folder, "masked-lm", device_map={"": "cpu"}).eval()
    assert torch.equal(logits(mapped), expected[0])


def test_sentence_transformers(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="pip install sentence-transformers")
    made, folder = exported(tmp_path, head="encoder", mask_padding=True)
    model = library.SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")
    texts = ["the old house", "trees and water by the house"]
    vectors = model.encode(texts)
    assert vectors.shape == (2, made.config.hidden_size)
    np.testing.assert_allclose(vectors[0], model.encode(texts[0]), atol=1e-5 * np.abs(vectors).max())
