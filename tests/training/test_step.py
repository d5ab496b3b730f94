"""The training step: gradient accumulation, frozen parameters, and several devices."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from bigs_cli.checkpoints.folder import write_flax
from bigs_cli.checkpoints.resolve import find_model, open_model
from bigs_cli.core.errors import RequestError
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import Parameters, initialize, make_apply
from bigs_cli.models.losses import classification_sums
from bigs_cli.models.sharding import AXES, batch_sharding, check_batch, make_mesh, shardings
from bigs_cli.recipe.groups import Compute, Mesh, Optimizer, Schedule
from bigs_cli.reporting.metrics_log import read_metrics
from bigs_cli.training.optimizer import OPTIMIZERS, SSM_NAMES, learning_rate, make_optimizer
from bigs_cli.training.step import StepOptions, TrainState, make_step, new_state
from tests.tiny import bigs, finetune, on_eight_devices, parameters

CONFIG = BiGSConfig(
    vocab_size=23,
    hidden_size=8,
    num_hidden_layers=2,
    intermediate_size=16,
    num_ssm=4,
    max_position_embeddings=8,
    hidden_dropout_prob=0.0,
    head="sequence-classification",
    num_labels=3,
)
LR_SCHEDULE = learning_rate(Schedule(kind="constant"), 1e-2, 1)
DROPOUT = CONFIG.model_copy(update={"hidden_dropout_prob": 0.5})
# With the default initializer_range, the layers of a model of this size hardly change its outputs.
LARGE_WEIGHTS = {"initializer_range": 0.4, "num_attention_heads": 2, "final_norm": True}
MUON: tuple[dict[str, Any], ...] = tuple(
    {"config": DROPOUT.model_copy(update={**LARGE_WEIGHTS, "block": block, "mixer": mixer}), "optimizer_name": "muon"}
    for block in ("gated", "stacked")
    for mixer in ("ssm", "attention")
)


def batch(rows: int = 8) -> dict[str, Any]:
    random = np.random.default_rng(0)
    ids = random.integers(1, CONFIG.vocab_size, (rows, 8), np.int32)
    ids[:, 6:] *= random.integers(0, 2, (rows, 1), np.int32)
    labels, weights = random.integers(0, 3, rows, np.int32), np.ones(rows, np.float32)
    weights[-3:] = 0  # The batch is not full: all rows of a micro-batch may be padding.
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int32), "token_type_ids": np.zeros_like(ids)}
    return {**inputs, "labels": labels, "weights": weights}


@functools.cache
def initial(config: BiGSConfig = CONFIG) -> Parameters:
    return jax.tree.map(np.asarray, initialize(config, 0))


def run(
    accumulate: int, config: BiGSConfig = CONFIG, steps: int = 3, optimizer_name: Any = "adamw", **sizes: int
) -> tuple[TrainState, list[dict[str, float]]]:
    """Take `steps` steps on a mesh of `sizes`; return the final state and the metrics of each step."""
    mesh = make_mesh(Mesh(**sizes))
    optimizer = make_optimizer(Optimizer(name=optimizer_name, learning_rate=1e-2, beta2=0.98, weight_decay=0.05))
    apply = make_apply(config, Compute())

    def loss(params: Parameters, batch: dict[str, Any], key: jax.Array, part: Any) -> Any:
        inputs = (batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
        logits = apply(params, *inputs, key=jax.random.fold_in(key, part)).logits
        return classification_sums(logits, batch["labels"], batch["weights"])

    step = make_step(loss, optimizer, LR_SCHEDULE, 0, StepOptions(accumulate))
    state, metrics = new_state(jax.tree.map(jnp.asarray, initial(config)), optimizer), []
    state = jax.device_put(state, TrainState(*(shardings(mesh, part) for part in state)))
    for _ in range(steps):
        state, values = step(state, jax.device_put(batch(), batch_sharding(mesh)))
        metrics.append({name: float(value) for name, value in values.items()})
    return state, metrics


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_gradient_accumulation_matches_the_whole_batch(name: str) -> None:
    whole, expected = run(1, optimizer_name=name)
    for parts in (2, 4):
        state, metrics = run(parts, optimizer_name=name)
        for ours, theirs in zip(metrics, expected, strict=True):
            assert ours == pytest.approx(theirs, rel=2e-5)
        for ours, theirs in zip(jax.tree.leaves(state.params), jax.tree.leaves(whole.params), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-4)
    assert int(whole.step) == 3


def test_fine_tuning_with_gradient_accumulation_matches_the_whole_batch(
    pretrained: Path, glue: Path, tmp_path: Path
) -> None:
    """The last batch of an epoch is not full: 24 examples in batches of 16."""
    model = open_model(find_model(str(pretrained)))
    (tmp_path / "start").mkdir()
    write_flax(tmp_path / "start", model.config.model_copy(update={"hidden_dropout_prob": 0.0}), model.flat)
    shutil.copy(pretrained / "tokenizer.json", tmp_path / "start")
    logs, tuned = [], []
    for parts in (1, 4):
        run, sets = tmp_path / f"run-{parts}", ("batch_size=16", f"gradient_accumulation_steps={parts}", "log_every=1")
        options = [word for value in sets for word in ("--set", value)]
        bigs(*finetune("mrpc", tmp_path / "start", glue, run, *options)).fine()
        logs.append([entry for entry in read_metrics(run / "metrics.jsonl") if "grad_norm" in entry])
        tuned.append(parameters(run / "checkpoints"))
    assert len(logs[0]) == len(logs[1]) >= 2
    for whole, parts in zip(*logs, strict=True):
        for name in ("loss", "accuracy", "grad_norm"):
            assert parts[name] == pytest.approx(whole[name], rel=1e-4), name
    for path, whole in tuned[0].items():
        np.testing.assert_allclose(tuned[1][path], whole, atol=2e-4, err_msg=path)


def test_dropout_depends_on_step_and_row_but_not_on_the_run() -> None:
    assert run(1, DROPOUT)[1] == run(1, DROPOUT)[1]
    apply, params = jax.jit(make_apply(DROPOUT, Compute())), initial()
    ids = np.tile(np.arange(1, 9, dtype=np.int32), (4, 1))
    logits = np.asarray(apply(params, ids, np.ones_like(ids), np.zeros_like(ids), key=jax.random.key(0)).logits)
    assert len(np.unique(logits.round(6), axis=0)) == 4


def test_fine_tuning_with_freeze_ssm_leaves_ssm_parameters_unchanged(
    pretrained: Path, glue: Path, tmp_path: Path
) -> None:
    bigs(*finetune("cola", pretrained, glue, tmp_path / "run", "--set", "freeze_ssm=true")).fine()
    before, after = parameters(pretrained / "checkpoints"), parameters(tmp_path / "run" / "checkpoints")
    # A single sentence uses one of the two token types; weight decay must not change the other one either.
    frozen = {path for path in before if any(f"'{name}'" in path for name in (*SSM_NAMES, "token_type_embeddings"))}
    assert len(frozen) == 11
    common = before.keys() & after.keys()
    assert {path for path in common if np.array_equal(before[path], after[path])} == frozen


MIXED = ({"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 2, "sequence": 2, "tensor": 2})
MESHES = (*MIXED, {"data": 8}, {"fsdp": 8}, {"tensor": 8}, {"data": 2, "sequence": 4})
MESHES_OF = (MESHES, MIXED, MIXED, MIXED)
"""The meshes of each run of `MUON`: all for the architecture of BiGS."""

ON_EIGHT_DEVICES = """
import json
from tests.training.test_step import MESHES_OF, MUON, leaves, run
for each, meshes in zip(MUON, MESHES_OF):
    for sizes in meshes:
        state, metrics = run(1, **each, **sizes)
        print(json.dumps([metrics, [leaf.tolist() for leaf in leaves(state)]]))
"""


def leaves(state: TrainState) -> list[Any]:
    """Return the parameters but the biases of the keys of attention, whose gradient is zero up to rounding."""
    found = jax.tree_util.tree_leaves_with_path(state.params)
    return [np.asarray(leaf) for path, leaf in found if not jax.tree_util.keystr(path).endswith("['key']['bias']")]


def test_every_mesh_gives_the_same_losses_and_parameters() -> None:
    """Eight simulated devices against one, with dropout, which must not depend on the devices.

    Updates of 0.9 times the size would change each dense kernel of the layers by more than 5e-4.
    """
    lines = iter(on_eight_devices(ON_EIGHT_DEVICES).splitlines())
    for each, meshes in zip(MUON, MESHES_OF, strict=True):
        state, expected = run(1, **each)
        for sizes, line in zip(meshes, lines, strict=False):
            metrics, params = json.loads(line)
            for ours, theirs in zip(metrics, expected, strict=True):
                assert ours == pytest.approx(theirs, rel=2e-5), sizes
            for ours, theirs in zip(params, leaves(state), strict=True):
                np.testing.assert_allclose(ours, theirs, atol=2e-5, err_msg=str(sizes))
    assert next(lines, None) is None


def test_runs_that_differ_in_seed_learning_rate_or_steps_share_a_compiled_step() -> None:
    traced = []

    def loss(params: Parameters, batch: Any, key: jax.Array, part: Any) -> Any:
        traced.append(part)
        return jnp.sum(params["kernel"] * batch), {"weight": jnp.float32(1)}

    rates = []
    for seed, lr, steps in ((0, 1e-2, 10), (1, 2e-2, 30)):
        optimizer = make_optimizer(Optimizer(learning_rate=lr, beta2=0.98, weight_decay=0.05))
        schedule = learning_rate(Schedule(kind="cosine", warmup_fraction=0.1), lr, steps)
        step, state = make_step(loss, optimizer, schedule, seed), new_state({"kernel": jnp.ones(3)}, optimizer)
        for _ in range(4):
            state, metrics = step(state, jnp.ones(3))
        rates.append(float(metrics["learning_rate"]))
    assert len(traced) == 1
    assert rates == pytest.approx([1e-2 * (1 + np.cos(np.pi * 2 / 9)) / 2, 2e-2])


def test_an_uncommitted_state_stays_uncommitted() -> None:
    """Otherwise the second step would be compiled again for another sharding."""

    def loss(params: Parameters, batch: Any, key: jax.Array, part: Any) -> Any:
        return jnp.sum(params["kernel"] * batch), {"weight": jnp.float32(1)}

    optimizer = make_optimizer(Optimizer(learning_rate=1e-2, beta2=0.98, weight_decay=0.05))
    params = {"kernel": jnp.ones(3)}
    state = make_step(loss, optimizer, LR_SCHEDULE, 0)(new_state(params, optimizer), jnp.ones(3))[0]
    assert int(state.step) == 1
    assert not any(leaf.committed for leaf in jax.tree.leaves(state))


def test_invalid_mesh_and_batch_sizes_are_rejected() -> None:
    with pytest.raises(
        RequestError, match="The mesh data 3 × fsdp 1 × sequence 1 × tensor 1 does not fit the 1 devices"
    ):
        make_mesh(Mesh(data=3))
    mesh = make_mesh(Mesh())
    check_batch(mesh, 7, 128)
    split: Any = AbstractMesh((1, 2, 3, 1), AXES)
    with pytest.raises(RequestError, match="3 rows per step cannot be split evenly over 2 devices"):
        check_batch(split, 3, 126)
    with pytest.raises(RequestError, match="Rows of 128 tokens cannot be split evenly over 3 devices"):
        check_batch(split, 4, 128)
    assert dict(mesh.shape) == {"data": 1, "fsdp": 1, "sequence": 1, "tensor": 1}
