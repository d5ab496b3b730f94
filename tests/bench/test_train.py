"""`bigs bench train`: real measurements that take seconds."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from bigs_cli.bench import train as bench_train
from bigs_cli.bench.bert import PACKAGES, bert_config
from bigs_cli.bench.train import shape_of
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import count, parameter_shapes
from tests.tiny import bigs

INSTALLED = all(find_spec(package) for package in PACKAGES)

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


def test_a_bert_has_about_as_many_parameters_as_the_published_model() -> None:
    ours = BiGSConfig()
    bert = bert_config(ours)
    assert (bert.num_hidden_layers, bert.num_attention_heads, bert.intermediate_size) == (24, 16, 4096)
    counts = [count(parameter_shapes(config)) for config in (ours, bert)]
    assert counts[1] == pytest.approx(counts[0], rel=0.05)


@pytest.mark.skipif(not INSTALLED, reason="PyTorch and transformers are not installed")
@pytest.mark.parametrize("way", ["train", "forward", "encode"])
def test_bert_is_measured_beside(way: str) -> None:
    ask = ("--setting", "bfloat16", "--peer", "bert", "--pass", way, "--json", "-")
    ours, theirs = json.loads(bigs("bench", "train", *TINY, *ask).fine().out)["shapes"]
    assert (ours["setting"], theirs["setting"]) == ("bfloat16", "bert-bfloat16")
    assert theirs["step_s"] > 0 < theirs["flops"] != ours["flops"]


def test_a_peer_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_train, "find_spec", lambda package: None)
    done = bigs("bench", "train", *TINY, "--peer", "bert")
    assert done.code == 2
    assert "--peer bert needs torch and transformers: pip install 'bigs[torch]'" in done.err


def test_invalid_requests_are_rejected() -> None:
    for words, message in ((("--shape", "128"), "such as 128x16"), (("--setting", "float"), "Did you mean 'float32'?")):
        done = bigs("bench", "train", *words)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
    assert shape_of("512X4") == (512, 4)
