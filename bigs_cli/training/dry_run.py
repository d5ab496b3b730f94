"""`--dry-run`: the memory and arithmetic of a run, and its sharding over the devices, computed from shapes alone."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from rich.table import Table

from bigs_cli.core.accelerators import ACCELERATORS, MFU
from bigs_cli.core.wording import counted, duration
from bigs_cli.data.corpus import Corpus
from bigs_cli.data.manifest import dtype_for
from bigs_cli.models import sharding as meshes
from bigs_cli.models.flops import count_flops
from bigs_cli.models.functional import count, parameter_shapes
from bigs_cli.recipe import BiGSConfig, FinetuneRecipe, PretrainRecipe, Recipe
from bigs_cli.reporting.console import table
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import type_of
from bigs_cli.training import batch_schedule
from bigs_cli.training.finetune import count_steps, target_config
from bigs_cli.training.optimizer import make_optimizer
from bigs_cli.training.pretrain import check_shards
from bigs_cli.training.step import TrainState, new_state

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class _Run:
    """The properties of a pretraining or fine-tuning run that both tables use."""

    config: BiGSConfig
    recipe: Recipe
    rows: int  # per step
    length: int
    steps: int
    batch: dict[str, Any]  # one row of each array, `[1, …]`
    predictions: int | None = None  # masked positions per row
    choices: int = 1  # sequences per row


@dataclass(frozen=True)
class Requirements:
    """What a run needs: its devices, bytes on each device, steps, tokens, FLOPs, and seconds on several accelerators.

    `tables` show the same, and the sharding of parameters.
    """

    values: dict[str, Any]
    tables: list[Table]


def dry_run_pretrain(recipe: PretrainRecipe, shards: Corpus | None, mfu: float = MFU) -> Requirements:
    """Return what pretraining needs, at this fraction of the peak FLOP/s. No array of model size is allocated.

    Without `shards`, rows are those that `bigs tokenize` writes by default.

    Raises:
        RequestError: recipe and shards are incompatible, as in the run itself.
    """
    L = recipe.data.sequence_length
    if shards is None:
        row = {"input_ids": np.zeros((1, L), dtype_for(recipe.model.vocab_size))}
    else:
        check_shards(recipe, shards)
        row = shards.split("train").take(np.zeros(1, np.int64))
    predictions = row["positions"].shape[1] if "positions" in row else recipe.masking.predictions(L)
    run = _Run(recipe.model, recipe, recipe.batch_size, L, batch_schedule.last_step(recipe), row, predictions)
    return _requirements(run, batch_schedule.base_batch_size(recipe) // recipe.gradient_accumulation_steps, mfu)


def dry_run_finetune(
    recipe: FinetuneRecipe, task: Task, examples: Examples, start: BiGSConfig, tokenizer: Tokenizer
) -> tuple[Requirements, str]:
    """Return what fine-tuning a model of config `start` needs, and the first example as the model reads it.

    Raises:
        RequestError: recipe and model are incompatible.
    """
    config, length = target_config(recipe, task, start)
    task_type = type_of(task)
    first = task_type.encode(tokenizer, examples.take([0]), length)
    row = first.batch(np.arange(1), 1)
    rows = task_type.count_rows(tokenizer, examples, length)
    steps = count_steps(recipe, rows)
    run = _Run(config, recipe, recipe.batch_size, length, steps, row, choices=first.choices)
    record = next(iter(examples.take([0]).records()))
    label = f" → {task_type.label_text(record['label'])}" if "label" in record else ""
    sequences = [first.ids[start:end].tolist() for start, end in itertools.pairwise(first.starts)]
    texts = "\n  ".join(tokenizer.decode(ids, skip_special_tokens=False) for ids in sequences)
    example = f"train example 0: {first.lengths[0]} of {length} tokens{label}\n  {texts}"
    return _requirements(run, recipe.batch_size // recipe.gradient_accumulation_steps, MFU), example


def _requirements(run: _Run, rows: int, mfu: float) -> Requirements:
    """Return what a run needs; `rows` is the size of a micro-batch."""
    mesh = meshes.planned_mesh(run.recipe.mesh)
    meshes.check_batch(mesh, rows, run.length)
    params, settings = parameter_shapes(run.config), run.recipe.optimizer
    optimizer = make_optimizer(settings)
    with_ema = settings.ema is not None
    state: TrainState = jax.eval_shape(lambda params: new_state(params, optimizer, with_ema), params)
    values, sizes = _sizes(run, mesh, state, mfu)
    return Requirements(values, [sizes, _shardings(mesh, params)])


def _sizes(run: _Run, mesh: meshes.AnyMesh, state: TrainState, mfu: float) -> tuple[dict[str, Any], Table]:
    batch = {name: jax.ShapeDtypeStruct((run.rows, *a.shape[1:]), a.dtype) for name, a in run.batch.items()}
    mixing, sequences = run.recipe.compute.mixing, run.rows * run.choices
    tokens = sequences * run.length
    flops = count_flops(run.config, run.length, mixing, run.predictions)
    step = flops.training * sequences
    total, warmup, budget = tokens * run.steps, "", ""
    if isinstance(run.recipe, PretrainRecipe):
        total = batch_schedule.tokens_until(run.recipe, run.steps)
        warmup = " after the batch-size warmup" if run.recipe.batch_size_warmup else ""
        budget = "" if run.recipe.budget is None else f"; the budget of {run.recipe.budget} replaces this number"
    shape = " × ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    params_bytes = _bytes(state.params, meshes.shardings(mesh, state.params))
    held = {
        "parameters": params_bytes,
        "gradients": params_bytes,  # of the same type and sharding
        "optimizer": _bytes(state.optimizer, meshes.shardings(mesh, state.optimizer)),
        "ema": 0 if state.ema is None else params_bytes,
        "batch": _bytes(batch, jax.tree.map(lambda _: meshes.batch_sharding(mesh), batch)),
    }
    held["total"] = sum(held.values())
    kind = mesh.devices.flat[0].device_kind if isinstance(mesh, jax.sharding.Mesh) else "not on this machine"
    flops_of_run = step * total / tokens
    seconds = {name: flops_of_run / (mfu * one.peak * mesh.size) for name, one in ACCELERATORS.items()}
    first = next(iter(seconds))
    left_out = "evaluation" if run.recipe.teacher is None else "the teacher and evaluation"
    note = f"{mfu:.0%} of the bfloat16 peak of {counted(mesh.size, 'device')}, without {left_out}"
    result = table("requirements", "item", "amount", "", right=("amount",))
    for line in (
        ("parameters", f"{count(state.params):,}", ""),
        ("devices", str(mesh.size), f"{kind}: {shape}"),
        ("parameters on each device", _size(held["parameters"]), ""),
        ("gradients on each device", _size(held["gradients"]), ""),
        ("optimizer state on each device", _size(held["optimizer"]), ""),
        *([("moving average on each device", _size(held["ema"]), "")] if state.ema is not None else []),
        *([("teacher", "", run.recipe.teacher)] if run.recipe.teacher is not None else []),
        ("batch on each device", _size(held["batch"]), ""),
        ("total on each device", _size(held["total"]), "without activations, which depend on compute.remat"),
        ("steps", f"{run.steps:,}", f"{tokens:,} tokens each{warmup}, {total:.3g} in total{budget}"),
        ("FLOPs per step", f"{step:.3e}", f"{flops_of_run:.3e} in total"),
        ("  dense maps", f"{flops.dense / flops.forward:.1%}", ""),
        ("  mixing", f"{flops.mixing / flops.forward:.1%}", mixing),
        (
            "  head",
            f"{flops.head / flops.forward:.1%}",
            f"at {run.predictions} masked positions per row" if run.predictions else "",
        ),
        *((f"time on {name}", duration(time), note if name == first else "") for name, time in seconds.items()),
    ):
        result.add_row(*line)
    values = {
        "parameters": count(state.params),
        "devices": mesh.size,
        "mesh": dict(mesh.shape),
        "bytes_per_device": held,  # without activations
        "checkpoint_bytes": _total_bytes((state.params, state.optimizer, state.ema)),
        "steps": run.steps,
        "tokens_per_step": tokens,
        "tokens": total,
        "flops_per_step": step,
        "flops": flops_of_run,
        "mfu": mfu,
        "seconds": seconds,
    }
    return values, result


def _shardings(mesh: meshes.AnyMesh, params: Any) -> Table:
    """Return a table of the sharding; parameters with the same rule and the same sharding share a row."""
    rows: dict[tuple[str, str], list[Any]] = {}
    for (path, leaf), sharding in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(meshes.shardings(mesh, params)), strict=True
    ):
        name = "/".join(str(key.key) for key in path)
        rule = next(pattern for pattern, _ in meshes.RULES if re.search(pattern, name))
        split = ", ".join(str(axis) if axis else "–" for axis in sharding.spec if len(sharding.spec))
        rows.setdefault((rule or "everything else", split or "replicated"), []).append(leaf)
    result = table("sharding", "path", "sharded over", "arrays", "parameters", right=("arrays", "parameters"))
    for (rule, split), leaves in rows.items():
        result.add_row(rule, split, str(len(leaves)), f"{sum(leaf.size for leaf in leaves):,}")
    return result


def _bytes(tree: Any, shardings: Any) -> int:
    """Return the memory that the arrays of `tree` use on one device, in bytes."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True)
    return sum(math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf, sharding in pairs)


def _total_bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _size(number: int) -> str:
    power = min((len(str(number)) - 1) // 3, 3)
    return f"{number / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"
