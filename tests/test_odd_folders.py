"""Every command accepts folder names that are special in globs, URLs, fsspec or shells."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import tempfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bigs_cli import load_model
from bigs_cli.checkpoints.orbax import Checkpoints, Keep, read_params, steps
from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.paths import plain_path
from bigs_cli.data.sources import read_documents
from bigs_cli.tasks import get_task
from bigs_cli.tasks.splits import load_examples
from tests.tiny import bigs, finetune, parameters, pretrain, snapshot, write_shards, write_tasks

ODD = "-[1]*?{x}%20#e:f~&! '\"$HOME::ü\n"
ONE_BY_ONE = [*"*?[]{}%#:~&!'\"$;,=@+ \\\n", "::", "**", "ü", "gs:", "s3:", "file:", "-r", "[red]", "\udcff"]


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A relative path with all of these characters; its parent is the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = Path("gs:") / ODD
    folder.mkdir(parents=True)
    monkeypatch.setenv("BIGS_RUNS", f"./{folder}/runs")
    monkeypatch.setenv("BIGS_CACHE", f"./{folder}/cache")
    return folder


def test_the_whole_lifecycle_in_an_odd_folder(odd: Path, tmp_path: Path) -> None:
    shards, glue, table = write_shards(odd), write_tasks(odd / "glue"), odd / "own.csv"
    bigs("tokenize", "--check", shards).fine()
    made = bigs(*pretrain(shards, odd / "runs" / "base", checkpoint__every_steps=2, optimizer__ema=0.9)).fine()
    base = Path(made.out.rstrip("\n"))
    again = bigs(*pretrain(shards, base, "--resume")).fine()
    assert "after step 6" in again.err
    bigs("eval", "mlm", "--model", base).fine()
    bigs(*finetune("mrpc", "base", glue, odd / "runs" / "mrpc")).fine()
    bigs("eval", "--model", "mrpc", "--data", glue, "--predictions", odd / "answers.jsonl").fine()
    bigs("runs", "report", "base", "mrpc", "--output", odd / "page.html").fine()
    table.write_text("text,label\n" + "the river runs,a\na stone bridge,b\n" * 4)
    sets = ("--set", "epochs=1", "--set", "batch_size=8", "--set", "sequence_length=24")
    bigs("finetune", "--train", table, "--dev", table, "--from", base, "--run", odd / "runs" / "own", *sets).fine()
    bigs("predict", "--model", odd / "runs" / "own", "--input", table, "--output", odd / "answers.csv").fine()
    for form in ("safetensors", "torch"):
        bigs("export", "--model", base, "--format", form, "--output", odd / form).fine()
        load_model(odd / form).save_pretrained(odd / f"{form}-saved")
    named = 'say "a\\b" [1]'
    bigs("export", "--model", base, "--format", "safetensors", "--output", odd / named).fine()
    code = (odd / named / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert f"{named}/model.safetensors" in [
        node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"gs:"}


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_checkpoints_in_any_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved, links = {"x": np.arange(6, dtype=np.float32)}, tmp_path / "links"
    links.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(links))
    for folder in (tmp_path / f"a{name}b" / "c", tmp_path / name):
        with Checkpoints(folder, Keep(1)) as checkpoints:
            for step in (1, 2):
                checkpoints.save(step, saved, saved, {"row": step})
            checkpoints.wait()
            assert checkpoints.restore(2, saved, saved)[2:] == (None, {"row": 2})
        assert steps(folder) == [2]
        step, read = read_params(folder, saved, pytest.fail)
        assert (step, read["x"].tolist()) == (2, saved["x"].tolist())
        assert not list(links.iterdir())


def test_an_unreadable_checkpoint_replaces_no_other(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orbax does not write the index of a checkpoint in a folder such as run[1]."""
    folder, saved = tmp_path / "run[1]" / "checkpoints", {"x": np.ones(3, np.float32)}
    with Checkpoints(folder, Keep(1)) as checkpoints:
        checkpoints.save(1, saved)
    before = snapshot(folder / "1")
    monkeypatch.setattr("bigs_cli.checkpoints.orbax.plain_path", contextlib.nullcontext)
    with Checkpoints(folder, Keep(1)) as checkpoints:
        checkpoints.save(2, saved)
        with pytest.raises(BigsError, match="checkpoints/2 was written but cannot be read back"):
            checkpoints.wait()
    assert (steps(folder), snapshot(folder / "1")) == ([1], before)
    run = tmp_path / "run[2]"
    lost = bigs(*pretrain(shards, run, checkpoint__every_steps=2))
    assert (lost.code, lost.out) == (1, "")
    assert f"The checkpoint {run}/checkpoints/2 was written but cannot be read back" in lost.err
    monkeypatch.undo()
    bigs(*pretrain(shards, run, "--resume")).fine()
    assert parameters(run / "checkpoints")


def test_a_failure_to_create_the_link_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with (
        pytest.raises(RequestError, match=r"run\[1\] has special characters .+ \$TMPDIR"),
        plain_path(tmp_path / "run[1]"),
    ):
        pass


def test_errors_name_the_folder_instead_of_the_link(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error, plain_path(tmp_path / "run[1]") as plain:
        (plain / "absent").read_bytes()
    assert error.value.filename == str(tmp_path / "run[1]" / "absent")


@pytest.mark.parametrize("name", ["a::b", "~", "file:", "s3:", "[1]", "label=1"])
def test_data_in_any_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Includes a saved data set and Parquet files, for which libraries parse column names from paths."""
    monkeypatch.chdir(tmp_path)
    folder = Path(name)
    folder.mkdir()
    (folder / "text::2024.jsonl").write_text(json.dumps({"text": "A river."}) + "\n")
    for source in (folder, folder / "text::2024.jsonl"):
        assert list(read_documents([str(source)])) == ["A river."]
    columns = {"sentence1": ["a"], "sentence2": ["b"], "label": [0]}
    (folder / "mrpc").mkdir()
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved").rename(folder / "mrpc" / "validation")
    with (folder / "mrpc" / "train.parquet").open("wb") as file:
        parquet.write_table(pa.table(columns), file)
    for split in ("dev", "train"):
        read = load_examples(get_task("mrpc"), split, folder)
        assert [record["label"] for record in read.records()] == [0]
