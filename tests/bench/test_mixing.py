"""`bigs bench mixing`: a measurement of every mixer that takes seconds."""

from __future__ import annotations

import json

from tests.tiny import bigs


def test_costs_of_every_mixer() -> None:
    ask = ("bench", "mixing", "--length", 16, "--tokens", 32, "--channels", 4, "--states", 4)
    mixers = ("dense", "chunked", "fft", "recurrence")
    done = bigs(*ask, *(word for name in mixers for word in ("--mixer", name)), "--json", "-").fine()
    report = json.loads(done.out)
    assert [one["mixer"] for one in report["lengths"]] == list(mixers)
    assert all(one["batch"] == 2 and one["training_ns"] > 0 < one["forward_ns"] for one in report["lengths"])
    done = bigs("bench", "mixing", "--mixer", "dens")
    assert (done.code, done.out) == (2, "")
    assert "Did you mean 'dense'?" in done.err
