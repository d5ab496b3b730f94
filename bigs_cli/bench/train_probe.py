"""One measurement of `bigs bench train`, run as a separate process: a training step or forward pass on random tokens.

Takes a `Setting` as JSON, and prints a line of JSON: compile time, step times, peak memory, and FLOPs of a step.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import BaseModel, ConfigDict

from bigs_cli.bench.bert import bert_config, bert_memory, bert_run
from bigs_cli.bench.reference import make_reference_apply
from bigs_cli.bench.train import Method
from bigs_cli.core.memory import keep_freed_memory
from bigs_cli.data.masking import MaskIds, mask_tokens
from bigs_cli.models.backends import backend
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.flops import count_flops
from bigs_cli.models.functional import Apply, Parameters, initialize, make_apply, unstack_layers
from bigs_cli.models.losses import classification_sums
from bigs_cli.recipe.groups import Compute, Masking, Optimizer, Schedule
from bigs_cli.training.optimizer import learning_rate, make_optimizer
from bigs_cli.training.pretrain import masked_lm_loss
from bigs_cli.training.profile import trace
from bigs_cli.training.step import SummedLoss, make_step, new_state

_SCHEDULE_STEPS = 1000


class Setting(BaseModel):
    """The settings of a measurement."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: BiGSConfig
    compute: Compute
    pass_: Literal["train", "forward", "encode"]
    length: int
    batch: int
    method: Method = "bigs"
    """`reference` is the method of the original code, with logits at every position; `bert` is in `bert.py`."""
    steps: int = 5
    profile: Path | None = None
    """Write a trace of the steps to this folder."""


def measure(setting: Setting) -> dict[str, Any]:
    """Return `compile_s`, `step_s` of each step after the first, `peak_memory_bytes`, and `flops`.

    The memory is that of the first device if known, else that of this process. FLOPs are counted for our method, or
    for BERT with logits at every position.
    """
    if setting.method == "bert":
        run = bert_run(setting)
    else:
        run = (_training if setting.pass_ == "train" else _forward)(setting)
    started = time.perf_counter()
    run()
    compile_seconds = time.perf_counter() - started
    times = []
    with contextlib.nullcontext() if setting.profile is None else trace(setting.profile):
        for _ in range(setting.steps):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
    return {
        "compile_s": compile_seconds,
        "step_s": times,
        "peak_memory_bytes": bert_memory() if setting.method == "bert" else _peak_memory(),
        "flops": _flops(setting),
    }


def _training(setting: Setting) -> Callable[[], None]:
    """Return a function that runs a training step and waits for it."""
    masking = _masking(setting)
    special = MaskIds(0, 103, setting.model.vocab_size, (0, 100, 101, 102, 103))
    if setting.method == "reference":
        reference = make_reference_apply(setting.model)
        loss = _loss_everywhere(lambda params, *a, **kw: reference(unstack_layers(params), *a, **kw), special, masking)
    else:
        loss = masked_lm_loss(make_apply(setting.model, setting.compute), special, masking)
    lr_schedule = learning_rate(Schedule(kind="cosine", warmup_steps=10), 1e-4, _SCHEDULE_STEPS)
    optimizer = make_optimizer(Optimizer(learning_rate=1e-4, beta2=0.98, weight_decay=0.05))
    step = make_step(loss, optimizer, lr_schedule, seed=0)
    state = new_state(initialize(setting.model, 0), optimizer)
    batch = {"input_ids": _ids(setting), "row": jnp.arange(setting.batch, dtype=jnp.int32)}

    def run() -> None:
        nonlocal state
        state, _ = step(state, batch)
        jax.block_until_ready(state)

    return run


def _forward(setting: Setting) -> Callable[[], None]:
    """Return a function that runs a forward pass, with weights cast beforehand, and waits for it."""
    unstacked = setting.method == "reference" or not backend().scans_layers
    apply = make_apply(setting.model, setting.compute, unstacked)
    if setting.method == "reference":
        apply = make_reference_apply(setting.model)
    params = jax.tree_util.tree_map_with_path(_cast(setting.compute), initialize(setting.model, 0))
    if unstacked:
        params = unstack_layers(params)
    ids = _ids(setting)
    output = "last_hidden_state" if setting.pass_ == "encode" else "logits"
    run = jax.jit(lambda params, ids: apply(params, ids)[output])
    return lambda: jax.block_until_ready(run(params, ids))


def _cast(compute: Compute) -> Callable[[Any, jax.Array], jax.Array]:
    """Return a function that casts dense kernels and word embeddings; SSM and LayerNorm parameters stay float32."""

    def cast(path: Any, leaf: jax.Array) -> jax.Array:
        return leaf.astype(compute.dtype) if path[-1].key in ("kernel", "embedding") else leaf

    return cast


def _loss_everywhere(apply: Apply, special: MaskIds, masking: Masking) -> SummedLoss:
    """Return the pretraining loss, computed from the logits at every position."""

    def loss(params: Parameters, batch: dict[str, jax.Array], key: jax.Array, part: Any) -> Any:
        mask_key, dropout_key = jax.random.split(key)
        masked = mask_tokens(mask_key, batch["row"], batch["input_ids"], special, masking)
        logits = apply(params, masked.input_ids, masked.attention_mask, key=dropout_key).logits
        rows = batch["row"][:, None]
        weights = jnp.zeros(logits.shape[:2]).at[rows, masked.positions].max(masked.weights)
        return classification_sums(logits, batch["input_ids"], weights)

    return loss


def _masking(setting: Setting) -> Masking:
    return Masking(max_predictions=20 if setting.length == 128 else None)


def _flops(setting: Setting) -> float:
    if setting.method == "bert":
        flops = count_flops(bert_config(setting.model), setting.length)
        return setting.batch * (flops.training if setting.pass_ == "train" else flops.forward)
    if setting.pass_ != "train":
        return setting.batch * count_flops(setting.model, setting.length).forward
    predictions = _masking(setting).predictions(setting.length)
    return setting.batch * count_flops(setting.model, setting.length, predictions=predictions).training


def _ids(setting: Setting) -> jax.Array:
    drawn = np.random.default_rng(0).integers(200, setting.model.vocab_size, (setting.batch, setting.length))
    return jnp.asarray(drawn, jnp.int32)


def _peak_memory() -> int:
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    keep_freed_memory()
    print(json.dumps(measure(Setting.model_validate_json(sys.argv[1]))))
