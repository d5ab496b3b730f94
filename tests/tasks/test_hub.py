"""Tasks from the hub: the real client in a separate process reads a data set served on the loopback interface."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.hub_server import Hub, serving
from tests.tiny import HANG

GLUE = "datasets/nyu-mll/glue"
NOWHERE = "http://127.0.0.1:9"
READ = """
import json, os, sys, time
from bigs_cli.core.errors import BigsError
from bigs_cli.tasks import get_task
from bigs_cli.tasks.splits import load_examples
def refuse(seconds):
    raise SystemExit(f"It waits for {seconds} seconds.")
if "AT_ONCE" in os.environ:
    time.sleep = refuse
for name, split in (pair.split(":") for pair in sys.argv[1:]):
    try:
        read = load_examples(get_task(name), split)
        print(json.dumps([read.text_a, read.text_b, None if read.labels is None else read.labels.tolist()]))
    except BigsError as error:
        print(json.dumps(str(error)))
"""


def table(columns: dict[str, list[Any]], classes: list[str] | None) -> pa.Table:
    """Return a table as `datasets` writes it: if there are class names, labels are indices of them."""
    kinds = {"idx": "int32", "label": "int64" if classes else "float32"}
    features: dict[str, Any] = {name: {"dtype": kinds.get(name, "string"), "_type": "Value"} for name in columns}
    if classes:
        features["label"] = {"names": classes, "_type": "ClassLabel"}
    types = {"string": pa.string(), "int32": pa.int32(), "int64": pa.int64(), "float32": pa.float32()}
    schema = pa.schema([(name, types[kinds.get(name, "string")]) for name in columns])
    return pa.table(columns, schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})}))


def glue(root: Path) -> Path:
    """Write a repository with three configurations in the hub's layout; MRPC's classes are not in our order."""
    pairs = {"sentence1": ["a", "c", "e"], "sentence2": ["b", "d", "f"], "idx": [0, 1, 2]}
    swapped, nli = ["equivalent", "not_equivalent"], ["entailment", "neutral", "contradiction"]
    tables = {
        "mrpc/train": table({**pairs, "label": [0, 1, 0]}, swapped),
        "mrpc/validation": table({**pairs, "label": [1, 1, 0]}, swapped),
        "mrpc/test": table({**pairs, "label": [-1, -1, -1]}, swapped),
        "stsb/validation": table({**pairs, "label": [0.5, 5.0, 2.25]}, None),
        "mnli/validation_matched": table({"premise": ["p"], "hypothesis": ["h"], "label": [2]}, nli),
        "mnli/validation_mismatched": table({"premise": ["q"], "hypothesis": ["i"], "label": [0]}, nli),
    }
    card = ["---", "configs:"]
    for config in ("mrpc", "stsb", "mnli"):
        card += [f"- config_name: {config}", "  data_files:"]
        for name in (name for name in tables if name.startswith(config)):
            (root / config).mkdir(parents=True, exist_ok=True)
            parquet.write_table(tables[name], root / f"{name}-00000-of-00001.parquet")
            card += [f"  - split: {name.split('/')[1]}", f"    path: {name}-*"]
    (root / "README.md").write_text("\n".join([*card, "---", "# GLUE"]))
    return root


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with serving(Hub({GLUE: glue(tmp_path_factory.mktemp("hub"))})) as stand_in:
        yield stand_in


def read(home: Path, endpoint: str, *splits: str, **environment: str) -> list[Any]:
    """Return the examples or the error of each "task:split", with the hub at `endpoint` and its cache in `home`."""
    variables = {**os.environ, "HF_HUB_OFFLINE": "", "HF_ENDPOINT": endpoint, "HF_HOME": str(home), **environment}
    ended = subprocess.run(
        [sys.executable, "-c", READ, *splits], env=variables, capture_output=True, text=True, timeout=HANG
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_tasks_are_downloaded_and_then_read_from_the_cache(hub: Hub, tmp_path: Path) -> None:
    splits = ("mrpc:train", "mrpc:dev", "mrpc:test", "stsb:dev", "mnli:dev", "mnli:dev_mismatched")
    first, second = ["a", "c", "e"], ["b", "d", "f"]
    expected = [
        [first, second, [1, 0, 1]],  # matched by name: "equivalent" is 0 there and 1 here
        [first, second, [0, 0, 1]],
        [first, second, None],
        [first, second, [0.5, 5.0, 2.25]],
        [["p"], ["h"], [2]],
        [["q"], ["i"], [0]],
    ]
    cache = tmp_path / "home [1]"  # `datasets` would use this name as a pattern
    assert read(cache, hub.endpoint, *splits) == expected
    hub.requests.clear()
    assert read(cache, NOWHERE, *splits) == expected
    assert read(cache, hub.endpoint, *splits, HF_HUB_OFFLINE="1") == expected
    assert hub.requests == []


@pytest.mark.parametrize(
    ("offline", "reason"), [("", f"the hub ({NOWHERE}) cannot be reached"), ("1", "HF_HUB_OFFLINE is set")]
)
def test_a_missing_network_is_reported_at_once(offline: str, reason: str, tmp_path: Path) -> None:
    (message,) = read(tmp_path, NOWHERE, "mrpc:train", HF_HUB_OFFLINE=offline, AT_ONCE="1")
    assert message == (
        f"The train split of MRPC is not on this machine, and {reason}. "
        "Pass --data DIR with train.tsv and dev.tsv, or connect to the hub once."
    )


def test_data_missing_from_the_hub_is_reported(hub: Hub, tmp_path: Path) -> None:
    no_config, no_split = read(tmp_path, hub.endpoint, "rte:dev", "stsb:train")
    assert no_config.startswith(
        "The dev split of RTE is not on this machine, and it cannot be downloaded from the hub ("
    )
    assert no_split.startswith(
        "The train split of STS-B is not on this machine, and it cannot be downloaded from the hub ("
    )
    with serving(Hub({})) as empty:
        (no_repository,) = read(tmp_path / "other", empty.endpoint, "mrpc:dev")
    assert "it cannot be downloaded from the hub (Dataset 'nyu-mll/glue' doesn't exist" in no_repository
