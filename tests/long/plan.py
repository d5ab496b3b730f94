"""Plan the published pretraining run of 97B tokens on 8 × H100, 64 × H100 and 64 × TPU v5e, without these machines.

For every mesh, the step is compiled at published size for simulated devices (`bigs bench mesh`), and the collective
operations in the compiled code are compared with those that the mesh must cause. Writes docs/results/plan-97b.json, and
prints it as the table in docs/distributed.md.

Run: python -m tests.long.plan [MESH …], for example data=8 or data=8,fsdp=8; by default all
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any

from bigs_cli.core.wording import duration
from tests.tiny import ROOT, bigs

RECIPE = "wiki-books-128-97b"
RESULTS = ROOT / "docs" / "results" / "plan-97b.json"
MESHES = (
    *("data=8", "fsdp=8", "tensor=8", "sequence=8"),
    *("data=64", "fsdp=64", "data=8,fsdp=8", "data=8,tensor=8", "data=8,sequence=8"),
)
MACHINES = {8: ("H100",), 64: ("H100", "TPU v5e")}
ROWS = {64: ("--set", "batch_size=1024", "--set", "steps=740059")}
"""The 1,048 rows of the recipe cannot be divided by 64; with 1,024, as many tokens take more steps."""
LAYERS = 23


def main(names: list[str]) -> None:
    """Measure the meshes `names`, and print the table of all that are measured."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    plans: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or MESHES:
        plans[name] = plan(name)
        check(name, plans[name])
        RESULTS.write_text(json.dumps({mesh: plans[mesh] for mesh in MESHES if mesh in plans}, indent=2) + "\n")
        print(f"{name}: the expected collective operations", file=sys.stderr, flush=True)
    print_table(plans)


def sizes_of(name: str) -> dict[str, int]:
    """Return the sizes of a mesh that is written as data=8,fsdp=8."""
    return {axis: int(size) for axis, size in (part.split("=") for part in name.split(","))}


def plan(name: str) -> dict[str, Any]:
    """Return what `bigs pretrain --dry-run` and `bigs bench mesh` print about a mesh, as far as it depends on it."""
    sizes = {"data": 1} | sizes_of(name)
    words = [word for axis, size in sizes.items() for word in ("--set", f"mesh.{axis}={size}")]
    words += ROWS.get(math.prod(sizes.values()), ())
    needed = json.loads(bigs("pretrain", "--recipe", RECIPE, "--dry-run", *words, "--json").fine().out)
    measured = json.loads(bigs("bench", "mesh", RECIPE, *words, "--json", "-").fine().out)
    kept = ("collectives", "state_bytes", "temporary_bytes", "mfu", "seconds_per_step")
    return {"settings": words[1::2], "dry_run": needed, "bench_mesh": {key: measured[key] for key in kept}}


def check(name: str, found: dict[str, Any]) -> None:
    """Check that the compiled step has the collective operations that the axes of the mesh need.

    The bytes are compared for one axis: data parallelism sums the gradients, FSDP gathers the parameters twice.
    """
    sizes, sent = sizes_of(name), found["bench_mesh"]["collectives"]
    devices = math.prod(sizes.values())
    both_ways = 2 * 4 * found["dry_run"]["parameters"] * (devices - 1) / devices
    sums, gathers = (sent.get(kind, {"count": 0, "bytes": 0}) for kind in ("all-reduce", "all-gather"))
    if "data" in sizes:
        assert sums["bytes"] > 0, sent
    if list(sizes) == ["data"]:  # The embedding has two gradients: as input and as output.
        assert 0.85 * both_ways < sums["bytes"] < 1.2 * both_ways, sent
        assert gathers["bytes"] < 0.01 * sums["bytes"], sent
    if "fsdp" in sizes:  # every layer, forward and backward
        assert gathers["count"] >= 2 * LAYERS, sent
    if list(sizes) == ["fsdp"]:
        assert 0.85 * both_ways < gathers["bytes"] < 1.5 * both_ways, sent
    if "tensor" in sizes:  # the activations of every layer, forward and backward
        assert sums["count"] >= 2 * LAYERS, sent
    if "sequence" in sizes:  # the states of every layer, forward and backward
        assert gathers["count"] >= 2 * LAYERS, sent


def print_table(plans: dict[str, Any]) -> None:
    """Print one row for each machine and mesh, in Markdown."""
    print(
        "| devices | mesh | parameters, optimizer state | activations, gradients | sent | computation | sending | run |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for name in MESHES:
        if name not in plans:
            continue
        needed, measured = plans[name]["dry_run"], plans[name]["bench_mesh"]
        sent = sum(one["bytes"] for one in measured["collectives"].values())
        held = needed["bytes_per_device"]["total"] - needed["bytes_per_device"]["gradients"]
        for machine in MACHINES[needed["devices"]]:
            seconds = measured["seconds_per_step"][machine]
            run = needed["steps"] * max(seconds.values())
            cells = (
                f"{needed['devices']} × {machine}",
                name.replace("=", " ").replace(",", " × "),
                *(f"{size / 1e9:.2f} GB" for size in (held, measured["temporary_bytes"], sent)),
                *map(duration, (seconds["compute"], seconds["send"], run)),
            )
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
