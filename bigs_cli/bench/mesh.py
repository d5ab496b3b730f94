"""`bigs bench mesh`: what each device of a mesh holds and sends in a training step, without these devices.

Run as a script, it compiles the step of a recipe for simulated CPU devices, and counts the collective operations in the
compiled code.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import jax
import numpy as np
from rich.table import Table

from bigs_cli.bench.child import run_child
from bigs_cli.core.accelerators import ACCELERATORS
from bigs_cli.core.wording import counted, duration
from bigs_cli.data.manifest import dtype_for
from bigs_cli.data.masking import MaskIds
from bigs_cli.models import sharding as meshes
from bigs_cli.models.backends import ACCELERATOR, BACKENDS
from bigs_cli.models.flops import count_flops
from bigs_cli.models.functional import make_apply, parameter_shapes
from bigs_cli.recipe import PretrainRecipe
from bigs_cli.reporting.console import table
from bigs_cli.training import batch_schedule
from bigs_cli.training.optimizer import learning_rate, make_optimizer
from bigs_cli.training.pretrain import masked_lm_loss
from bigs_cli.training.step import StepOptions, lower_step, new_state

_SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f64": 8, "s64": 8, "u64": 8}
_COLLECTIVE = re.compile(
    r"= (?P<shapes>\(?[a-z0-9]+\[.*?) (?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)"
    r"(?:-start)?\("
)
_SHAPE = re.compile(r"([a-z]+\d+)\[([\d,]*)\]")
_GROUPS = re.compile(r"replica_groups=(?:\{\{([\d,]*)\}|\[(\d+),(\d+)\])")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) .*\{$")
_CALLED = re.compile(r"(?:body|to_apply|calls|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclass(frozen=True)
class Sent:
    """The collective operations of one kind in a step: their number, and the bytes that each device sends."""

    count: int
    bytes: float


@dataclass(frozen=True)
class Measured:
    """A compiled training step, per device."""

    state_bytes: int
    """Parameters, optimizer state and batch."""
    temporary_bytes: int
    """Activations, gradients and buffers."""
    collectives: dict[str, Sent]
    compile_seconds: float


@dataclass(frozen=True)
class Planned:
    """The seconds of a step on one kind of accelerator: for computation, and for what each device sends."""

    compute: float
    send: float


def measure(recipe: PretrainRecipe, devices: int) -> Measured:
    """Compile a step of a recipe whose mesh has this number of devices, in a process of its own.

    Raises:
        BigsError: it failed.
    """
    values = recipe.model_dump_json(by_alias=True)
    output = run_child("bigs_cli.bench.mesh", values, JAX_NUM_CPU_DEVICES=str(devices), JAX_PLATFORMS="cpu")
    found = json.loads(output)
    sent = {kind: Sent(**one) for kind, one in found.pop("collectives").items()}
    return Measured(**found, collectives=sent)


def mesh_table(measured: Measured, title: str) -> Table:
    """Return a table of what each device holds and sends."""
    rows = table(title, "on each device", "operations", "bytes", right=("operations", "bytes"))
    rows.add_row("parameters, optimizer state, batch", "", f"{measured.state_bytes:,}")
    rows.add_row("activations, gradients, buffers", "", f"{measured.temporary_bytes:,}")
    for kind, sent in sorted(measured.collectives.items()):
        rows.add_row(f"sent by {kind}", f"{sent.count:,}", f"{sent.bytes:,.0f}")
    total = sum(sent.bytes for sent in measured.collectives.values())
    rows.add_row("sent per step", f"{sum(sent.count for sent in measured.collectives.values()):,}", f"{total:,.0f}")
    return rows


def plan_of(recipe: PretrainRecipe, measured: Measured, devices: int, mfu: float) -> dict[str, Planned]:
    """Return the time of a step, by accelerator, on this number of devices at the fraction `mfu` of their peak."""
    length, masked = recipe.data.sequence_length, recipe.masking.predictions(recipe.data.sequence_length)
    flops = count_flops(recipe.model, length, recipe.compute.mixing, masked).training * recipe.batch_size
    sent = sum(one.bytes for one in measured.collectives.values())
    return {
        name: Planned(flops / (devices * mfu * one.peak), sent / one.sends(devices))
        for name, one in ACCELERATORS.items()
    }


def plan_table(plan: Mapping[str, Planned], recipe: PretrainRecipe, devices: int, mfu: float) -> Table:
    """Return a table of the time of a step, and of the whole run if sending overlaps with computation."""
    rows = table(
        f"time on {counted(devices, 'device')}, computing at {mfu:.0%} of the bfloat16 peak",
        *("", "compute a step", "send", "whole run", "if both overlap"),
        right=("compute a step", "send", "whole run", "if both overlap"),
    )
    steps = batch_schedule.tokens_until(recipe, batch_schedule.last_step(recipe))
    steps /= recipe.batch_size * recipe.data.sequence_length
    for name, one in plan.items():
        apart, together = one.compute + one.send, max(one.compute, one.send)
        rows.add_row(name, *map(duration, (one.compute, one.send, steps * apart, steps * together)))
    return rows


def collectives_in(text: str) -> dict[str, Sent]:
    """Return the collective operations in the text of a compiled program, those in loops as often as the loops run.

    A ring of g devices sends (g − 1)/g of the bytes of the whole array to gather, scatter or exchange it, and twice as
    many to sum it (Thakur et al. 2005, "Optimization of Collective Communication Operations in MPICH").
    """
    lines: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        if (begins := _COMPUTATION.match(line)) is not None:
            name = begins["name"]
            lines[name] = []
            entry = name if begins["entry"] else entry
        elif name:
            lines[name].append(line)
    counts: Counter[str] = Counter()
    sizes: dict[str, float] = defaultdict(float)

    def visit(name: str, times: int) -> None:
        for line in lines.get(name, ()):
            if (found := _COLLECTIVE.search(line)) is not None:
                counts[found["kind"]] += times
                sizes[found["kind"]] += times * _sent(found["kind"], found["shapes"], line)
                continue  # `to_apply` is only the operator of a sum.
            trips = _TRIPS.search(line)
            called = [*_CALLED.findall(line)]
            if (branches := _BRANCHES.search(line)) is not None:
                called += [branch.strip().lstrip("%") for branch in branches[1].split(",")]
            for other in called:
                visit(other, times * (int(trips[1]) if trips and f"body=%{other}" in line else 1))

    visit(entry, 1)
    return {kind: Sent(counts[kind], sizes[kind]) for kind in counts}


def _sent(kind: str, shapes: str, line: str) -> float:
    """Return how many bytes a device sends in one operation with results of these shapes."""
    size = sum(
        _SIZES.get(kind, 4) * math.prod(map(int, filter(None, dims.split(","))))
        for kind, dims in _SHAPE.findall(shapes)
    )
    if kind == "collective-permute":
        return size
    groups = _GROUPS.search(line)
    devices = jax.device_count()
    if groups is not None:
        devices = groups[1].count(",") + 1 if groups[1] is not None else int(groups[3])
    whole = {"reduce-scatter": devices * size, "all-reduce": 2 * size}.get(kind, size)
    return whole * (devices - 1) / devices


def _compile(recipe: PretrainRecipe) -> Measured:
    """Compile the step for the devices of this process, with the choices for accelerators."""
    BACKENDS["cpu"] = ACCELERATOR
    mesh = meshes.make_mesh(recipe.mesh)
    V, L, rows = recipe.model.vocab_size, recipe.data.sequence_length, recipe.batch_size
    special = MaskIds(0, 103, V, (0, 100, 101, 102, 103))
    loss = masked_lm_loss(make_apply(recipe.model, recipe.compute), special, recipe.masking)
    optimizer = make_optimizer(recipe.optimizer, False, recipe.compute.dtype)
    schedule = learning_rate(recipe.schedule, recipe.optimizer.learning_rate, batch_schedule.last_step(recipe))
    options = StepOptions(recipe.gradient_accumulation_steps, recipe.optimizer.ema)
    with_ema = recipe.optimizer.ema is not None
    state = jax.eval_shape(lambda params: new_state(params, optimizer, with_ema), parameter_shapes(recipe.model))
    state = jax.tree.map(_placed, state, type(state)(*(meshes.shardings(mesh, part) for part in state)))
    sharding = meshes.batch_sharding(mesh)
    batch = {"input_ids": jax.ShapeDtypeStruct((rows, L), dtype_for(V)), "row": jax.ShapeDtypeStruct((rows,), np.int32)}
    if recipe.masking.final_rate is not None:
        batch["mask_rate"] = jax.ShapeDtypeStruct((rows,), np.float32)
    batch = {name: _placed(array, sharding) for name, array in batch.items()}
    started = time.perf_counter()
    compiled = lower_step(loss, optimizer, schedule, recipe.seed, options, state, batch).compile()
    seconds = time.perf_counter() - started
    memory = compiled.memory_analysis()
    assert memory is not None
    return Measured(
        memory.argument_size_in_bytes, memory.temp_size_in_bytes, collectives_in(compiled.as_text() or ""), seconds
    )


def _placed(array: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)


if __name__ == "__main__":
    print(json.dumps(asdict(_compile(PretrainRecipe.model_validate_json(sys.argv[1])))))
