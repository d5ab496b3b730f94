"""`bigs bench export`: a forward pass of every installed runner, in seconds."""

from __future__ import annotations

import json

from tests.tiny import bigs


def test_forward_passes_of_all_runners() -> None:
    ask = ("bench", "export", "--shape", "8x2", "--layers", 1, "--hidden", 8, "--vocab-size", 300, "--rounds", 1)
    done = bigs(*ask, "--runner", "bigs", "--runner", "stablehlo", "--json", "-").fine()
    report = json.loads(done.out)
    assert [one["runner"] for one in report["runners"]] == ["bigs", "stablehlo"]
    assert all(one["seconds"] > 0 for one in report["runners"])
    assert report["runners"][0]["relative"] == 1
    done = bigs("bench", "export", "--runner", "onx")
    assert (done.code, done.out) == (2, "")
    assert "Did you mean 'onnx'?" in done.err
    assert "such as 128x16" in bigs("bench", "export", "--shape", "512").err
