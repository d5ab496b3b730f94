"""The inference engine: batches of few shapes, outputs in input order, and windows of an endless stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigs_cli import inference, load_model
from bigs_cli.data.encode import Encoded, bucket
from bigs_cli.inference import Engine, fitting_batch_size, windows_of
from bigs_cli.prediction.items import items_of
from bigs_cli.tasks.items import TEXT_OR_PAIR, Item
from tests.tiny import bigs, finetune, on_eight_devices


class Grouped(Encoded):
    @property
    def groups(self) -> np.ndarray:
        return self.text_a_lengths % 2


def rows(lengths: list[int], length: int) -> Grouped:
    starts = np.cumsum([0, *lengths])
    return Grouped(np.arange(starts[-1], dtype=np.int32), starts, np.array(lengths), length)


def test_buckets_are_few_and_need_little_padding() -> None:
    shapes = {bucket(tokens, 512) for tokens in range(1, 513)}
    assert sorted(shapes) == [16, 32, 48, 64, 96, 128, 192, 256, 384, 512]
    assert all(tokens <= bucket(tokens, 512) for tokens in range(1, 513))
    assert all(bucket(tokens, 512) <= 1.5 * tokens + 1 for tokens in range(32, 513))
    assert bucket(20, 25) == 25
    assert [fitting_batch_size(n, 32) for n in (1, 2, 3, 5, 32, 1000)] == [1, 2, 4, 8, 32, 32]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 9), st.booleans(), st.booleans())
def test_outputs_are_returned_in_input_order(lengths: list[int], size: int, trim: bool, by_token: bool) -> None:
    inputs = rows(lengths, 40)

    def function(params: int, batch: dict[str, Any]) -> Any:
        ids = params * batch["input_ids"] * batch["attention_mask"]
        return ids if by_token else ids.sum(1)

    engine = Engine(function, size, trim, by_token)
    batches = list(engine.batches(inputs))
    assert sorted(row for chosen, _ in batches for row in chosen) == list(range(len(lengths)))
    assert all(len(set(inputs.groups[chosen])) == 1 and len(batch["input_ids"]) == size for chosen, batch in batches)
    done: list[int] = []
    with jax.disable_jit():
        found = engine(1, inputs, done.append)
    assert sum(done) == len(lengths)
    parts = [inputs.ids[a:b] for a, b in zip(inputs.starts, inputs.starts[1:], strict=False)]
    np.testing.assert_array_equal(found, inputs.ids if by_token else [part.sum() for part in parts])


def test_windows_limit_items_and_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "WINDOW", 4)
    monkeypatch.setattr(inference, "CHARACTERS", 100)
    items = [Item("x" * size, None, (), {}, "here") for size in (1, 1, 1, 1, 1, 99, 1, 1)]
    assert [len(window) for window in windows_of(items)] == [4, 2, 2]


def test_an_endless_stream_is_read_one_window_ahead(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "WINDOW", 8)
    model = load_model(models / "sequence-classification")
    predictor = model._predictor(5, None, None, None)
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"the river {taken}"

    answers = predictor.answers(items_of(endless(), TEXT_OR_PAIR))
    for number in range(1, 4):
        window = next(answers)
        assert [item.text_a for item, _ in window] == [f"the river {i}" for i in range(8 * number - 7, 8 * number + 1)]
        assert taken <= 8 * (number + 1)


@pytest.mark.parametrize("size", [1, 3, 64])
def test_answers_do_not_depend_on_the_batch_size(models: Path, size: int) -> None:
    texts = [f"{'the old river ' * (i % 5)} sea" for i in range(11)]
    model = load_model(models / "trimmed")
    expected, found = model.predict(texts), model.predict(texts, batch_size=size)
    for one, other in zip(expected, found, strict=True):
        assert one["prediction"] == other["prediction"]
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)


ON_EIGHT_DEVICES = """
import jax
import numpy as np
from bigs_cli.inference import Engine
from tests.test_inference import rows

seen = set()

def function(params, batch):
    note = lambda sharding: seen.add(sharding.shard_shape(batch["input_ids"].shape))
    jax.debug.inspect_array_sharding(batch["input_ids"], callback=note)
    return (params * batch["input_ids"] * batch["attention_mask"]).sum(1)

inputs = rows([3, 4, 5] * 11, 16)
sums = [inputs.ids[a:b].sum() for a, b in zip(inputs.starts, inputs.starts[1:])]
for size in (16, 4):
    np.testing.assert_array_equal(Engine(function, size, trim=True)(np.int32(1), inputs), sums)
print(sorted(seen))
"""


def test_rows_are_split_over_all_devices_if_they_divide_evenly() -> None:
    assert on_eight_devices(ON_EIGHT_DEVICES) == "[(2, 16), (4, 16)]\n"


EVALUATIONS = """
import json, sys
from tests.tiny import bigs
run, task, glue, shards = sys.argv[1:]
print(bigs("eval", "mlm", "--model", run, "--data", shards, "--json").fine().out)
print(bigs("eval", "--model", task, "--data", glue, "--json").fine().out)
"""


def test_evaluations_on_eight_devices_give_the_same_results(
    pretrained: Path, shards: Path, glue: Path, tmp_path: Path
) -> None:
    task = tmp_path / "cola"
    bigs(*finetune("cola", pretrained, glue, task)).fine()
    alone = bigs("eval", "mlm", "--model", pretrained, "--data", shards, "--json").fine().out
    found = on_eight_devices(EVALUATIONS, pretrained, task, glue, shards)
    mlm, scores = found.split("\n}\n")[:2]
    assert json.loads(mlm + "}")["metrics"] == pytest.approx(json.loads(alone)["metrics"], rel=1e-4)
    expected = json.loads(bigs("eval", "--model", task, "--data", glue, "--json").fine().out)
    assert json.loads(scores + "}")["metrics"] == pytest.approx(expected["metrics"])
