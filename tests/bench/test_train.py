"""`bigs bench train`: real measurements that take seconds."""

from __future__ import annotations

import json

import pytest

from bigs_cli.bench.train import shape_of
from tests.tiny import bigs

TINY = ("--layers", 1, "--hidden", 8, "--vocab-size", 300, "--rounds", 1, "--steps", 1, "--shape", "16x2")


@pytest.mark.parametrize("way", [(), ("--pass", "forward"), ("--pass", "encode")])
def test_results_of_training_steps_and_forward_passes(way: tuple[str, ...]) -> None:
    done = bigs("bench", "train", *TINY, "--setting", "reference", "--setting", "float32", *way, "--json", "-").fine()
    assert "float32 matrix products" in done.err
    report = json.loads(done.out)
    assert report["peak_flops"]["float32"] > 0
    reference, ours = report["shapes"]
    assert (reference["setting"], ours["setting"]) == ("reference", "float32")
    assert all(one["step_s"] > 0 < one["compile_s"] for one in report["shapes"])
    assert reference["speedup"] == 1
    assert ours["speedup"] == reference["step_s"] / ours["step_s"]
    assert ours["tokens_per_second"] == 32 / ours["step_s"]
    assert reference["flops"] == ours["flops"] > 0


def test_invalid_requests_are_rejected() -> None:
    for words, message in ((("--shape", "128"), "such as 128x16"), (("--setting", "float"), "Did you mean 'float32'?")):
        done = bigs("bench", "train", *words)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
    assert shape_of("512X4") == (512, 4)
