"""`bigs bench mesh` counts the collective operations that the arithmetic predicts."""

from __future__ import annotations

import json

import pytest

from bigs_cli.bench.mesh import Sent, collectives_in
from tests.tiny import bigs, settings

TEXT = """
HloModule jit_step, entry_computation_layout={()->f32[]}

%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}

%body.1 (arg: (s32[], f32[8])) -> (s32[], f32[8]) {
  %all-gather.1 = bf16[16,10]{1,0} all-gather(%x), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  %permute = f32[5]{0} collective-permute(%x), source_target_pairs={{0,1}}
}

ENTRY %main (p: f32[]) -> f32[] {
  %while.1 = (s32[], f32[8]) while(%t), condition=%c, body=%body.1, backend_config={"known_trip_count":{"n":"3"}}
  %all-reduce.1 = (f32[100]{0}, f32[]) all-reduce(%a, %b), replica_groups=[1,8]<=[8], to_apply=%sum
}
"""


def test_loops_and_groups_are_counted() -> None:
    assert collectives_in(TEXT) == {
        "all-gather": Sent(3, 3 * 320 * 3 / 4),
        "collective-permute": Sent(3, 3 * 20),
        "all-reduce": Sent(1, 2 * 404 * 7 / 8),
    }


SIZE = settings(model__num_hidden_layers=6, model__vocab_size=160, model__hidden_size=32)


@pytest.mark.parametrize("axis", ["data", "fsdp"])
def test_each_device_sends_what_the_arithmetic_predicts(axis: str) -> None:
    """Data parallelism sums the gradient once; FSDP gathers the parameters in the forward and the backward pass.

    Small parameters are not sharded, and the embedding has two gradients: as input and as output.
    """
    words = (*SIZE, "--set", "mesh.data=1", "--set", f"mesh.{axis}=4", "--json")
    needed = json.loads(bigs("pretrain", "--recipe", "demo", "--dry-run", *words).fine().out)
    assert needed["mesh"][axis] == needed["devices"] == 4
    measured = json.loads(bigs("bench", "mesh", "demo", *words, "-").fine().out)
    sent = measured["collectives"]["all-reduce" if axis == "data" else "all-gather"]["bytes"]
    expected = 2 * 4 * needed["parameters"] * 3 / 4
    assert 0.85 * expected < sent < 1.5 * expected
    seconds = measured["seconds_per_step"]["H100"]
    assert seconds["compute"] * needed["steps"] == pytest.approx(needed["seconds"]["H100"])
    assert seconds["send"] == pytest.approx(sum(one["bytes"] for one in measured["collectives"].values()) / 450e9)
    held = needed["bytes_per_device"]["total"] - needed["bytes_per_device"]["gradients"]
    assert measured["state_bytes"] == pytest.approx(held, rel=0.05)


@pytest.mark.parametrize(("axis", "kind"), [("tensor", "all-reduce"), ("sequence", "all-gather")])
def test_every_layer_exchanges_activations_or_states(axis: str, kind: str) -> None:
    """Tensor parallelism sums activations, sequence parallelism gathers states: forward and backward, in six layers."""
    words = (*SIZE, "--set", "mesh.data=1", "--set", f"mesh.{axis}=2", "--mfu", 0.5, "--json", "-")
    measured = json.loads(bigs("bench", "mesh", "demo", *words).fine().out)
    assert measured["collectives"][kind]["count"] >= 2 * 6
    assert measured["mfu"] == 0.5


def test_unsuitable_recipes_are_refused() -> None:
    for words, message in (
        (("sst2",), "is for fine-tuning"),
        (("demo", "--set", "mesh.data=3"), "3"),
        (("demo", "--set", "teacher=runs/small"), "without a teacher"),
    ):
        done = bigs("bench", "mesh", *words)
        assert (done.code, message in done.err) == (2, True)
