"""Models and data from the hub: the real clients with a fake hub on the loopback interface, in separate processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bigs_cli.checkpoints.folder import write_flax
from tests.checkpoints.tiny import config, parameters
from tests.hub_server import COMMIT, Hub, serving
from tests.tasks.test_hub import GLUE, glue
from tests.tiny import HANG

MNLI = "JunxiongWang/BiGS_512_MNLI"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdef"]
ASK = """
import sys
import numpy as np
import bigs_cli
given = np.load(sys.argv[1])
inputs = {name: given[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
logits = {}
for revision in (None, sys.argv[2]):
    model = bigs_cli.BiGSForSequenceClassification.from_pretrained("JunxiongWang/BiGS_512_MNLI", revision=revision)
    logits[str(revision)] = np.asarray(model(**inputs).logits)
logits["short name"] = np.asarray(bigs_cli.load_model("mnli")(**inputs).logits)
np.savez(sys.argv[3], **logits)
try:
    bigs_cli.load_model("JunxiongWang/BiGS_512_MNLI", revision="v9")
except bigs_cli.core.errors.RequestError as error:
    print(error)
"""
Start = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Hub, Start]]:
    """An empty fake hub, and a function that runs Python in an empty folder with this hub as the only one."""
    with serving(Hub({})) as hub:
        here = tmp_path / "here"
        here.mkdir()
        environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": ""}
        environment.pop("BIGS_RUNS", None)

        def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, *map(str, arguments)]
            return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=HANG)

        yield hub, run


def test_a_published_model_loads_by_hub_id(shared: Path, start: tuple[Hub, Start], tmp_path: Path) -> None:
    hub, run = start
    folder, inputs = shared / "fixtures" / "flax_hippo_seqcls", shared / "fixtures" / "inputs.npz"
    hub.repositories[MNLI] = folder
    ended = run("-c", ASK, inputs, COMMIT, tmp_path / "logits.npz")
    assert ended.returncode == 0, ended.stderr
    with np.load(folder / "reference.npz") as reference, np.load(tmp_path / "logits.npz") as logits:
        assert set(logits) == {"None", COMMIT, "short name"}
        for actual in logits.values():
            atol = 5e-5 * np.abs(reference["logits"]).max()
            np.testing.assert_allclose(actual, reference["logits"], rtol=0, atol=atol)
    assert ended.stdout == f"The model {MNLI} on the hub has no revision 'v9'. Name a branch, tag or commit of it.\n"
    assert sorted(hub.downloads()) == ["config.json", "flax_model.msgpack"]


def test_fine_tuning_with_a_model_and_data_from_the_hub(start: tuple[Hub, Start], tmp_path: Path) -> None:
    hub, run = start
    of = config(head="sequence-classification", num_labels=3)
    hub.repositories |= {MNLI: tmp_path / "mnli", GLUE: glue(tmp_path / "glue")}
    (tmp_path / "mnli").mkdir()
    write_flax(tmp_path / "mnli", of, parameters(of))
    (tmp_path / "mnli" / "vocab.txt").write_text("\n".join(WORDS))

    bigs = ("-m", "bigs_cli")
    tuned = run(*bigs, "finetune", "mrpc", "--set", "epochs=1", "--set", "batch_size=2")
    assert tuned.returncode == 0, tuned.stderr
    assert tuned.stdout == "runs/mrpc\n"
    assert f"Model: {MNLI} (published; there is no finished mnli run in runs/)" in tuned.stderr
    results = json.loads((tmp_path / "here" / "runs" / "mrpc" / "results.json").read_text())

    evaluation = run(*bigs, "eval", "--json")
    assert evaluation.returncode == 0, evaluation.stderr
    assert json.loads(evaluation.stdout)["metrics"] == results["metrics"]


def test_a_model_missing_from_the_hub_is_reported(start: tuple[Hub, Start]) -> None:
    ended = start[1]("-m", "bigs_cli", "export", "--model", "someone/none", "--output", "out")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[-1].startswith(
        "bigs: someone/none is not a local file or folder, and the hub has no model"
    )
